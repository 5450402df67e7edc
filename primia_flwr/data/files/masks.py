"""One mask file to the class of each pixel: PNG, TIFF or DICOM SEG; values are never changed.

A mask of 1, 8 or 16 bits is read as it is stored, one with a palette by its indices, and a coloured
one where its channels are equal. Of a segmentation the numbers of its segments are the values. JPEG
changes values, so it is no format of masks.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from primia_flwr.data.files.decoding.png import check_pixels
from primia_flwr.data.files.images import Pixels, opened_image
from primia_flwr.data.files.listing import kind_of, read_head
from primia_flwr.data.files.segments import read_segments
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.errors import DataError
from primia_flwr.storage.reading import reason_of

_FORMATS = {"png": "PNG", "tiff": "TIFF"}
_PHOTOMETRIC = 262
_WHOLE = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I")


def decode_mask(
    path: Path, values: Sequence[int], *, image: Path, classes: Sequence[str] = ()
) -> Pixels:
    """Return the index of each pixel's class: (H, W) uint8.

    Parameters
    ----------
    path
        The file; its name's suffix is not trusted.
    values
        The value of each class in the file, in the order of the classes.
    image
        The image that it is the mask of; a segmentation may belong to several.
    classes
        Their names: a segment that is called like another class than its number's is refused.

    Raises
    ------
    DataError
        If the file is missing, damaged, of another kind, or has a value that is none of them.
    """
    stored = _stored(path, values, image, classes)
    found = np.unique(stored)
    strange = [int(value) for value in found if value not in values]
    if strange:
        raise DataError(
            f"{path}: the mask has the value {strange[0]}; expected one of {list(values)}, one a "
            "class: set data.classes and data.mask_values, e.g. data.mask_values=[0,255], or "
            "correct the mask"
        )
    order = np.argsort(values)
    index: Pixels = order[np.searchsorted(np.asarray(values)[order], stored)].astype(np.uint8)
    return index


def decode_partner(manifest: Manifest, sample: Sample, size: tuple[int, int]) -> Pixels:
    """Return `decode_mask` of an image's mask; `size` is the image's height and width.

    Raises
    ------
    DataError
        As `decode_mask`, or if the mask has another size.
    """
    mask, image = manifest.root / sample.mask, manifest.root / sample.path
    classes = decode_mask(mask, manifest.mask_values, image=image, classes=manifest.classes)
    height, width = size
    if classes.shape != size:
        raise DataError(
            f"{mask}: the mask has {classes.shape[1]} x {classes.shape[0]} pixels; expected "
            f"{width} x {height}, as its image: export both at one size"
        )
    return classes


def resize_mask(classes: Pixels, size: int, *, mode: str) -> Pixels:
    """Bring a mask to a square of `size` as `images.resize` brings its image; (1, size, size).

    Each pixel takes the class of the nearest one; what `pad` adds is class 0.
    """
    image, shape, method = Image.fromarray(classes), (size, size), Image.Resampling.NEAREST
    if mode == "pad":
        image = ImageOps.pad(image, shape, method=method, color=0)
    elif mode == "crop":
        image = ImageOps.fit(image, shape, method=method)
    elif image.size != shape:
        image = image.resize(shape, method)
    return np.asarray(image)[None]


def restore_mask(classes: Pixels, size: tuple[int, int], *, mode: str) -> Pixels:
    """Bring a square mask (S, S) back to the size (H, W) that `resize_mask` brought it from.

    What `crop` cut off is class 0.
    """
    height, width = size
    image, nearest = Image.fromarray(classes), Image.Resampling.NEAREST
    if mode != "crop":
        shown = image.crop(_shown_of(image.size, (width, height))) if mode == "pad" else image
        return np.asarray(shown.resize((width, height), nearest))
    side = min(size)
    canvas = Image.new("L", (width, height), 0)
    canvas.paste(image.resize((side, side), nearest), (_half(width - side), _half(height - side)))
    return np.asarray(canvas)


def _shown_of(square: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the part of a padded square in which an image of `size` (W, H) is, as a box."""
    width, height = ImageOps.contain(Image.new("1", size), square).size
    left, top = _half(square[0] - width), _half(square[1] - height)
    return left, top, left + width, top + height


def _half(length: int) -> int:
    return round(length / 2)


def _kind_of(path: Path) -> str:
    try:
        return kind_of(read_head(path))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be opened ({reason_of(error)}); expected a readable mask"
        ) from error


def _stored(
    path: Path, values: Sequence[int], image: Path, classes: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Return the values of a mask as the file holds them, (H, W)."""
    kind = _kind_of(path)
    if kind == "dicom":
        found = read_segments(path, image)
        _check_labels(path, found.labels, dict(zip(classes, values, strict=False)))
        return found.numbers
    if kind in _FORMATS:
        return _values(path, _FORMATS[kind])
    raise DataError(
        f"{path}: is no PNG, TIFF or DICOM SEG by its content; expected one of them, which keep "
        "the values of a mask: export it again"
    )


def _check_labels(path: Path, labels: Mapping[int, str], classes: Mapping[str, int]) -> None:
    """Refuse a segmentation that numbers the classes in another way than asked."""
    numbers = {name.casefold(): number for name, number in classes.items()}
    for number, label in labels.items():
        expected = numbers.get(label.casefold(), number)
        if expected != number:
            raise DataError(
                f"{path}: segment {number} is called {label!r:.100}, and data.classes has "
                f"that as the value {expected}; expected the same number: set data.mask_values, "
                "or number the segments alike"
            )


def _values(path: Path, form: str) -> npt.NDArray[np.int64]:
    with opened_image(path, form) as (image, content):
        if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:
            raise DataError(
                f"{path}: the mask has PhotometricInterpretation 0, white is zero, so that what is "
                "stored and what is shown differ; expected 1, black is zero: export it as a PNG"
            )
        image.load()
        check_pixels(image, content)
        turned = ImageOps.exif_transpose(image)
        array = np.asarray(turned)
        if turned.mode in _WHOLE:
            return array.astype(np.int64)
        if turned.mode == "RGB" and (array == array[..., :1]).all():
            return array[..., 0].astype(np.int64)
        kind = "of floats" if turned.mode == "F" else f"a coloured image ({turned.mode})"
        raise DataError(
            f"{path}: the mask is {kind}; expected one whole number a pixel: export it as a grey "
            "PNG"
        )
