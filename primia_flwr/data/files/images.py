"""One image file to pixels: JPEG, PNG, TIFF and DICOM, told apart by content, never by name."""

import io
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from primia_flwr.data.files.dicom import MAX_PIXELS, read_dicom
from primia_flwr.data.files.listing import is_dicom, kind_of, read_head
from primia_flwr.errors import DataError
from primia_flwr.storage.reading import reason_of

Pixels = npt.NDArray[np.uint8]

_FORMATS = {"jpeg": "JPEG", "png": "PNG", "tiff": "TIFF"}
_DEPTHS = (8, 10, 12, 14, 16)


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
        (H, W) uint8 for grey images, (H, W, 3) for colour. More than 8 bits are scaled by the
        smallest usual depth (10, 12, 14, 16) that holds the brightest pixel; transparency is
        laid over black; CMYK and palettes become RGB; the EXIF orientation is applied.

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
    with Image.open(path, formats=("JPEG",)) as image:
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


def _decode_with_pillow(path: Path, format_name: str, at_least: int) -> Pixels:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = io.BytesIO(path.read_bytes())  # a file would give memory for any claim
            with Image.open(content, formats=(format_name,)) as image:
                _check_size(path, image)
                if at_least and format_name == "JPEG":
                    image.draft(None, (2 * at_least, 2 * at_least))
                image.load()
                return _to_uint8(ImageOps.exif_transpose(image))
    except (DataError, MemoryError):
        raise
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, …
        raise DataError(
            f"{path}: damaged or cut off ({str(error).splitlines()[0] if str(error) else 'empty'});"
            f" expected an intact {format_name} file: copy it again or remove it"
        ) from error


def _check_size(path: Path, image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"{path}: claims {image.width} x {image.height} pixels; expected at most "
            f"{MAX_PIXELS:,}: store it smaller"
        )
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1 and image.format == "TIFF":
        raise DataError(f"{path}: has {frames} pages; expected a single image: export one page")


def _to_uint8(image: Image.Image) -> Pixels:
    if image.mode.startswith("I") or image.mode == "F":
        return _scale_deep(np.asarray(image))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        colour = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), colour)
        return _grey_if_grey(np.asarray(image.convert("RGB")))
    if image.mode in ("L", "1"):
        return np.asarray(image.convert("L"))
    return _grey_if_grey(np.asarray(image.convert("RGB")))


def _scale_deep(values: npt.NDArray[np.generic]) -> Pixels:
    """More than 8 bits a pixel, or floats (in [0, 1], else by their range)."""
    levels = np.nan_to_num(values.astype(np.float64))
    low, high = float(levels.min()), float(levels.max())
    if values.dtype.kind == "f":
        low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    elif low >= 0 and high < 2 ** _DEPTHS[-1]:
        low, high = 0.0, next(2.0**bits - 1 for bits in _DEPTHS if high < 2**bits)
    scaled = (levels - low) / max(high - low, 1e-12)
    return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def _grey_if_grey(pixels: Pixels) -> Pixels:
    """Drop two of three equal channels: radiographs are often stored as RGB."""
    first = pixels[..., 0]
    if np.array_equal(first, pixels[..., 1]) and np.array_equal(first, pixels[..., 2]):
        return np.ascontiguousarray(first)
    return pixels
