"""One file without metadata, by its kind; it counts only if it shows what the original shows."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from primia_flwr.data.deidentification.header import BareFile, bare_dicom
from primia_flwr.data.deidentification.pictures import bare_png, bare_tiff
from primia_flwr.data.deidentification.segments import bare_jpeg
from primia_flwr.data.files.images import Pixels, decode
from primia_flwr.data.files.listing import is_dicom, kind_of, read_head
from primia_flwr.data.pseudonyms import Pseudonyms
from primia_flwr.errors import DataError
from primia_flwr.storage.reading import read_bytes, reading

_ORIENTATION = 0x0112
_BARE = {"jpeg": bare_jpeg, "png": bare_png}
_SUFFIXES = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif"}


def bare_copy(path: Path, scratch: Path, patient: str, pseudonyms: Pseudonyms) -> BareFile:
    """Return an image file's content without whatever may name a person, pixels unchanged.

    Parameters
    ----------
    path : Path
        The file; it is only read.
    scratch : Path
        A private folder, where the copy is written to be decoded, and removed.
    patient : str
        The patient's pseudonym; empty if nobody knows whose image it is.
    pseudonyms : Pseudonyms
        For UIDs and dates.

    Raises
    ------
    DataError
        If the image cannot be read, or its copy would show other pixels.
    OSError
        If the copy cannot be written.
    """
    shown = decode(path)
    if is_dicom(path) or not kind_of(read_head(path)):
        bare = bare_dicom(path, patient, pseudonyms)
    else:
        bare = _bare_picture(path)
    again = scratch / f"{pseudonyms.of('scratch', str(path))}{bare.suffix}"
    again.write_bytes(bare.content)
    try:
        _check_same(path, shown, again)
    finally:
        again.unlink()
    return bare


def _bare_picture(path: Path) -> BareFile:
    kind = kind_of(read_head(path))
    expected = f"an intact {kind.upper()} file: save it again as PNG"
    with reading(path, error=DataError, expected=expected), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = read_bytes(path, at_most=path.stat().st_size)
        if kind == "tiff":
            found, removed = bare_tiff(content)
        else:
            found, removed = _BARE[kind](content, orientation=_orientation(path, kind))
    return BareFile(found, _SUFFIXES[kind], tuple(dict.fromkeys(removed)))


def _orientation(path: Path, kind: str) -> int:
    """Return how a picture is to be turned, from wherever it says so."""
    with Image.open(path, formats=(kind.upper(),)) as image:
        if kind == "png":
            image.load()  # what stands behind the pixels counts, too
        found = image.getexif().get(_ORIENTATION, 1)
    return found if found in range(1, 9) else 1


def _check_same(path: Path, shown: Pixels, again: Path) -> None:
    try:
        same = np.array_equal(shown, decode(again))
    except DataError:
        same = False
    if not same:
        raise DataError(
            f"{path}: without its metadata it would show other pixels, so it is not copied; "
            "expected pixels that need none: save it again, as PNG or uncompressed DICOM"
        )
