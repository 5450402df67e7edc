"""DICOM files: grey values as a radiologist would see them, and the patient.

The chain of the standard (PS3.3 C.11 and C.7.6.3): stored values → modality LUT or rescale →
VOI LUT or window → presentation (MONOCHROME1: bright means low).
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from primia_flwr.errors import DataError
from primia_flwr.storage.reading import reason_of

MAX_PIXELS = 100_000_000
"""Largest width x height that is decoded; a compressed file may claim any size."""


def read_dicom(path: Path) -> npt.NDArray[np.uint8]:
    """Decode one DICOM file.

    Returns
    -------
    np.ndarray
        (H, W) uint8, or (H, W, 3) for colour; the window, or without one the range of the
        values present, spans 0 to 255.

    Raises
    ------
    DataError
        If the file is no DICOM file, has no pixels, several frames, more than MAX_PIXELS, or
        a compression that cannot be decoded.
    """
    dataset = _read(path)
    _check(path, dataset)
    try:
        if dataset.PhotometricInterpretation in ("MONOCHROME1", "MONOCHROME2"):
            return _grey(dataset)
        return _colour(dataset)
    except MemoryError:
        raise
    except Exception as error:  # pydicom and its plugins raise a dozen unrelated types
        raise DataError(
            f"{path}: pixels cannot be decoded ({_first_line(error)}); expected an intact DICOM "
            "image: export it again, uncompressed"
        ) from error


def read_patient(path: Path) -> str:
    """PatientID of a DICOM file; empty if there is none or the file cannot be read."""
    try:
        dataset = _read(path, header_only=True)
    except DataError:
        return ""
    return str(dataset.get("PatientID") or "").strip()


def _read(path: Path, *, header_only: bool = False) -> Any:
    import pydicom

    try:
        return pydicom.dcmread(path, force=True, stop_before_pixels=header_only)
    except Exception as error:  # on arbitrary bytes the parser raises almost anything
        raise DataError(
            f"{path}: cannot be read as DICOM ({_first_line(error)}); expected an intact file: "
            "export it again"
        ) from error


def _check(path: Path, dataset: Any) -> None:
    if "PixelData" not in dataset or "PhotometricInterpretation" not in dataset:
        raise DataError(
            f"{path}: a DICOM file without pixels; expected an image: leave reports and "
            "presentation states out of the folder"
        )
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise DataError(f"{path}: has {frames} frames; expected a single image: export one frame")
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if not 0 < rows * columns <= MAX_PIXELS:
        raise DataError(
            f"{path}: claims {rows} x {columns} pixels; expected 1 to {MAX_PIXELS:,}: export it "
            "smaller"
        )


def _grey(dataset: Any) -> npt.NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    stored = dataset.pixel_array
    values = apply_voi_lut(apply_modality_lut(stored, dataset), dataset).astype(np.float64)
    low, high = _shown_range(dataset, values[stored != dataset.get("PixelPaddingValue")])
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        scaled = 1 - scaled
    return np.rint(scaled * 255).astype(np.uint8)


def _shown_range(dataset: Any, values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Values that stand for black and white: the ends of the VOI LUT or window, else of the data.

    `values` are those of real pixels, without padding.
    """
    from pydicom.pixels.processing import apply_windowing

    if dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return 0.0, float(2**bits - 1)
    if dataset.get("WindowWidth") is not None and dataset.get("WindowCenter") is not None:
        with np.errstate(over="ignore"):
            ends = apply_windowing(np.array([-1e30, 1e30]), dataset)
        return float(ends[0]), float(ends[1])
    if not values.size:
        return 0.0, 1.0
    return float(values.min()), float(values.max())


def _colour(dataset: Any) -> npt.NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_color_lut

    pixels = dataset.pixel_array
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)
    bits = 8 * pixels.dtype.itemsize
    scaled = pixels if bits == 8 else pixels >> (bits - 8)
    return np.asarray(scaled, dtype=np.uint8).reshape(*pixels.shape[:2], 3)


def _first_line(error: Exception) -> str:
    return reason_of(error)
