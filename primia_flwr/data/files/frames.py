"""Frames of a DICOM file, each as a file of its own that is decoded like any other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID

from primia_flwr.data.files.decoding.stream import open_dicom
from primia_flwr.data.files.listing import is_dicom
from primia_flwr.errors import DataError
from primia_flwr.storage.reading import reading

_MAX_FRAMES = 10_000
_EXPECTED = "an intact DICOM image: export its frames one by one"


def count_frames(path: Path) -> int:
    """Return how many frames a file says it has; 1 of what is no DICOM file or does not say."""
    if not is_dicom(path):
        return 1
    try:
        with open_dicom(path) as file:
            return max(1, file.header.integer("NumberOfFrames", 1))
    except Exception:  # decoding it says what is wrong
        return 1


def single_frames(path: Path, folder: Path) -> Iterator[Path]:
    """Yield each frame as a DICOM file in a folder; it is gone when the next is asked for.

    Raises
    ------
    DataError
        If the file cannot be read, or has more than _MAX_FRAMES frames or fewer than it says.
    """
    with reading(path, error=DataError, expected=_EXPECTED), open_dicom(path) as file:
        dataset = file.header.dataset
        count = file.header.integer("NumberOfFrames", 1)
        if count > _MAX_FRAMES:
            raise DataError(f"{path}: has {count} frames; expected at most {_MAX_FRAMES}")
        whole, vr = file.pixels(), file.vr or "OW"
        groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = UID(file.syntax)
        dataset.NumberOfFrames = 1
    for index in range(count):
        target = folder / f"{index}.dcm"
        with reading(path, error=DataError, expected=_EXPECTED):
            dataset.add_new("PixelData", vr, _frame(dataset, whole, index, count))
            if len(groups) == count:
                dataset.PerFrameFunctionalGroupsSequence = [groups[index]]
            dataset.save_as(target, enforce_file_format=True)
        try:
            yield target
        finally:
            target.unlink()


def _frame(dataset: Any, whole: bytes, index: int, count: int) -> bytes:
    from pydicom.encaps import encapsulate, get_frame

    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return encapsulate([get_frame(whole, index, number_of_frames=count)])
    size = len(whole) // count
    if dataset.BitsAllocated == 1 and (dataset.Rows * dataset.Columns) % 8:
        raise ValueError("its frames do not begin with a byte")
    if (len(whole) - size * count) > 1 or size == 0:
        raise ValueError(f"its {len(whole)} bytes of pixels are not {count} frames")
    frame = whole[index * size : (index + 1) * size]
    return frame + b"\0" * (len(frame) % 2)
