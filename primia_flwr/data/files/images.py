"""One image file to pixels: JPEG, PNG, TIFF and DICOM, told apart by content, never by name."""

import ctypes
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError, _imaging

from primia_flwr.data.files.decoding.claims import MAX_PIXELS, check_ratio
from primia_flwr.data.files.decoding.codestream import check_jpeg
from primia_flwr.data.files.decoding.deep import NotReadError, is_deep, read_deep, told_bits
from primia_flwr.data.files.decoding.png import check_pixels
from primia_flwr.data.files.dicom import read_dicom
from primia_flwr.data.files.listing import is_dicom, kind_of, read_head
from primia_flwr.data.files.regular import open_regular
from primia_flwr.errors import DataError
from primia_flwr.storage.reading import reason_of

Pixels = npt.NDArray[np.uint8]

_FORMATS = {"jpeg": "JPEG", "png": "PNG", "tiff": "TIFF"}
_READ = {
    "JPEG": "8 bits a sample, baseline or progressive",
    "PNG": "grey, colours or a palette",
    "TIFF": "grey of 1, 2, 4, 8, 12, 16 or 32 bits, or colours of 8 or 16",
}
_ORIENTATION = 0x0112
_MAX_BYTES = 1 << 30


def decode(path: Path, *, at_least: int = 0) -> Pixels:
    """Decode one image file.

    Parameters
    ----------
    path
        The file; its name's suffix is not trusted.
    at_least
        If set, a JPEG may come out smaller than stored, but with both sides at least twice this
        long: much faster for large files that are resized anyway.

    Returns
    -------
    np.ndarray
        (H, W) uint8 for grey images, (H, W, 3) for colour. More than 8 bits are scaled by what the
        file says is white, or by a guess (`decoding.deep`, `depth_is_guessed`); transparency is
        laid over black; CMYK and palettes become RGB; the orientation is applied, gamma and
        colour profiles are not. Floats within [0, 1] span 0 to 255, others by their range.

    Raises
    ------
    DataError
        If the file is missing, of another kind, damaged, or larger than 100 million pixels.
    """
    try:
        kind = kind_of(read_head(path))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be opened ({reason_of(error)}); expected a readable image file"
        ) from error
    if is_dicom(path):
        return read_dicom(path)
    if not kind:
        raise DataError(
            f"{path}: is neither JPEG, PNG, TIFF nor DICOM by its content; expected one of them: "
            "replace or remove the file"
        )
    return _decode_with_pillow(path, _FORMATS[kind], at_least)


def shorter_side(path: Path, pixels: Pixels) -> int:
    """Return the shorter side of the stored image; `pixels`, as decoded, may be smaller."""
    if kind_of(read_head(path)) != "jpeg":
        return int(min(pixels.shape[:2]))
    with _quiet(), Image.open(io.BytesIO(_read_all(path)), formats=("JPEG",)) as image:
        return min(image.width, image.height)


def resize(pixels: Pixels, size: int, *, mode: str, channels: int) -> Pixels:
    """Bring decoded pixels to a square of `size` and to 1 or 3 channels.

    `squash` ignores the aspect ratio, `pad` adds black on the short side, `crop` takes the
    middle of the long side. Shrinking is antialiased.

    Returns
    -------
    np.ndarray
        (channels, size, size) uint8.
    """
    image = Image.fromarray(pixels).convert("L" if channels == 1 else "RGB")
    shape, method = (size, size), Image.Resampling.BILINEAR
    if mode == "pad":
        image = ImageOps.pad(image, shape, method=method, color=0)
    elif mode == "crop":
        image = ImageOps.fit(image, shape, method=method)
    elif image.size != shape:
        image = image.resize(shape, method, reducing_gap=3.0)
    array = np.asarray(image)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def depth_is_guessed(path: Path) -> bool:
    """Whether a file does not say what in it is white, so that its brightest pixels decide.

    True for PNG and TIFF of 16 bits without `sBIT` or `MaxSampleValue`, and for TIFF of 32 bits or
    floats; False for all others, and for a file that cannot be read.
    """
    try:
        if (kind := kind_of(read_head(path))) not in ("png", "tiff"):
            return False
        content = _read_all(path)
        with _quiet(), Image.open(io.BytesIO(content), formats=(_FORMATS[kind],)) as image:
            return is_deep(image) and not told_bits(image, content)
    except Exception:  # Pillow raises almost anything; decoding says what
        return False


def _decode_with_pillow(path: Path, format_name: str, at_least: int) -> Pixels:
    with opened_image(path, format_name) as (image, content):
        if format_name != "JPEG" and is_deep(image):
            pixels = read_deep(image, content)
            check_pixels(image, content)
            return _grey_if_grey(_turned(pixels, image))
        if at_least and format_name == "JPEG":
            image.draft(None, (2 * at_least, 2 * at_least))
        image.load()
        check_pixels(image, content)
        if format_name == "JPEG":
            check_jpeg(content)
        return _to_uint8(ImageOps.exif_transpose(image))


@contextmanager
def opened_image(path: Path, format_name: str) -> Iterator[tuple[Image.Image, bytes]]:
    """Open an image file of one format for the block, with its bytes; not decoded yet.

    Raises
    ------
    DataError
        If the file is missing, damaged or too large, or the block cannot decode it.
    """
    _quiet_libtiff()
    try:
        content = _read_all(path)  # a file would give memory for any claim
        with _quiet(), Image.open(io.BytesIO(content), formats=(format_name,)) as image:
            _check_size(path, image, len(content))
            yield image, content
    except DataError:
        raise
    except MemoryError:
        raise DataError(
            f"{path}: needs more memory than there is; expected a smaller image: store it smaller"
        ) from None
    except (UnidentifiedImageError, NotReadError) as error:
        told = isinstance(error, NotReadError)
        what = f"has {error}, which are not read" if told else "damaged or cut off, or not known"
        raise DataError(
            f"{path}: {what}; expected a {format_name} file of {_READ[format_name]}: export it "
            "again"
        ) from None
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, …
        why = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
        raise DataError(
            f"{path}: damaged or cut off{why}; expected an intact {format_name} file: copy it "
            "again or remove it"
        ) from error


def _read_all(path: Path) -> bytes:
    with open_regular(path) as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise DataError(
            f"{path}: has more than {_MAX_BYTES:,} bytes; expected one image: store it smaller"
        )
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def _quiet_libtiff() -> None:
    """Keep the library of TIFF, which knows no file's name, from writing to the terminal."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)
        for handler in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)


def _check_size(path: Path, image: Image.Image, stored: int) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"{path}: claims {image.width} x {image.height} pixels; expected at most "
            f"{MAX_PIXELS:,}: store it smaller"
        )
    check_ratio(path, image.width * image.height * len(image.getbands()), stored)
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1 and image.format != "MPO":
        raise DataError(f"{path}: has {frames} pages; expected a single image: export one page")


def _turned(pixels: Pixels, image: Image.Image) -> Pixels:
    """Apply the orientation of a deep PNG file; Pillow has turned a TIFF file."""
    if image.format != "PNG" or image.getexif().get(_ORIENTATION, 1) == 1:
        return pixels
    shown = Image.fromarray(pixels)
    shown.getexif()[_ORIENTATION] = image.getexif()[_ORIENTATION]
    return np.asarray(ImageOps.exif_transpose(shown))


def _to_uint8(image: Image.Image) -> Pixels:
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        colour = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), colour)
        return _grey_if_grey(np.asarray(image.convert("RGB")))
    if image.mode in ("L", "1"):
        return np.asarray(image.convert("L"))
    return _grey_if_grey(np.asarray(image.convert("RGB")))


def _grey_if_grey(pixels: Pixels) -> Pixels:
    """Drop two of three equal channels: radiographs are often stored as RGB."""
    if pixels.ndim == 2:
        return pixels
    first = pixels[..., 0]
    if np.array_equal(first, pixels[..., 1]) and np.array_equal(first, pixels[..., 2]):
        return np.ascontiguousarray(first)
    return pixels
