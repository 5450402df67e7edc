"""DICOM files: grey values as a radiologist would see them, and the patient.

Uncompressed pixels are decoded here, compressed ones in a process of their own
(`decoding.workers`): their decoders are C and C++, and a damaged file may end them.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from primia_flwr.data.files.decoding import workers
from primia_flwr.data.files.decoding.claims import MAX_PIXELS, read_claims
from primia_flwr.data.files.decoding.show import refusing, shown
from primia_flwr.data.files.decoding.stream import NATIVE, open_dicom
from primia_flwr.errors import DataError


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
    with refusing(path), open_dicom(path) as file:
        claims = read_claims(file, at_most=MAX_PIXELS)
        if file.syntax in NATIVE:
            return shown(file, claims, is_native=True)
    return workers.decode(path, size=claims.bytes)


def read_patient(path: Path) -> str:
    """PatientID of a DICOM file; empty if there is none or the file cannot be read."""
    try:
        with refusing(path), open_dicom(path) as file:
            return file.header.name("PatientID")
    except DataError:
        return ""
