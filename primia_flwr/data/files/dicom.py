"""DICOM files: grey values as a radiologist would see them, and the patient.

Uncompressed pixels are decoded here, compressed ones in a process of their own
(`decoding.workers`): their decoders are C and C++, and a damaged file may end them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from primia_flwr.data.files.decoding import workers
from primia_flwr.data.files.decoding.claims import MONOCHROME, Claims, read_claims
from primia_flwr.data.files.decoding.colour import colour
from primia_flwr.data.files.decoding.compressed import compressed_words
from primia_flwr.data.files.decoding.grey import grey
from primia_flwr.data.files.decoding.stored import native_words
from primia_flwr.data.files.decoding.stream import NATIVE, DicomStream, open_dicom
from primia_flwr.errors import DataError
from primia_flwr.storage.reading import reason_of

MAX_PIXELS = 100_000_000
"""Largest width x height that is decoded; a compressed file may claim any size."""


def read_dicom(path: Path) -> npt.NDArray[np.uint8]:
    """Decode one DICOM file.

    Returns
    -------
    np.ndarray
        (H, W) uint8, or (H, W, 3) for colour. The VOI LUT, else the first window, else the range
        of the values present without padding, spans 0 to 255; a window without a width, or that is
        no number, counts as none. Colours span what their stored bits can hold.

    Raises
    ------
    DataError
        If the file is no DICOM file, has no pixels, several frames, more than MAX_PIXELS, a header
        that contradicts itself or its pixels, or a compression that cannot be decoded.
    """
    with _refusing(path), open_dicom(path) as file:
        claims = read_claims(file, at_most=MAX_PIXELS)
        if file.syntax in NATIVE:
            return _shown(file, claims, claims.photometric)
    return workers.decode(path, size=claims.bytes)


def decode_compressed(path: Path) -> npt.NDArray[np.uint8]:
    """Decode a compressed DICOM file in this process, which may die of it; as `read_dicom`."""
    with _refusing(path), open_dicom(path) as file:
        return _shown(file, read_claims(file, at_most=MAX_PIXELS), "")


def read_patient(path: Path) -> str:
    """PatientID of a DICOM file; empty if there is none or the file cannot be read."""
    try:
        with _refusing(path), open_dicom(path) as file:
            return file.header.name("PatientID")
    except DataError:
        return ""


def _shown(file: DicomStream, claims: Claims, photometric: str) -> npt.NDArray[np.uint8]:
    """Show a file's pixels; `photometric` is empty if they are compressed."""
    if photometric:
        words = native_words(file, claims)
    else:
        words, photometric = compressed_words(file, claims)
    with np.errstate(all="ignore"):  # floats may be anything
        if photometric in MONOCHROME:
            return grey(words, file.header, inverted=photometric == "MONOCHROME1")
        return colour(words, file.header, photometric)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn whatever a parser or a decoder raises into one sentence that names the file."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"{path}: cannot be opened ({reason_of(error)}); expected a readable image file"
        ) from None
    except MemoryError:
        raise DataError(
            f"{path}: needs more memory than there is; expected a smaller image: export it smaller"
        ) from None
    except Exception as error:  # on arbitrary bytes pydicom and its plugins raise almost anything
        raise DataError(
            f"{path}: cannot be decoded ({reason_of(error)}); expected an intact DICOM image: "
            "export it again, uncompressed"
        ) from error
