"""Frames of a DICOM file, each as a file of its own that is decoded like any other."""

from collections.abc import Iterator
from pathlib import Path

from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from primia_flwr.data.files.decoding.compressed import frames_of
from primia_flwr.data.files.decoding.stream import NATIVE, DicomStream, open_dicom
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
        frames, vr = _frames(file, count), file.vr or "OW"
        groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
        if len(groups) not in (0, count):
            raise ValueError(f"it describes {len(groups)} frames, and has {count}")
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = UID(file.syntax)
        dataset.NumberOfFrames = 1
    for index, frame in enumerate(frames):
        target = folder / f"{index}.dcm"
        with reading(path, error=DataError, expected=_EXPECTED):
            dataset.add_new(file.keyword, vr, frame)
            if groups:
                dataset.PerFrameFunctionalGroupsSequence = [groups[index]]
            dataset.save_as(target, enforce_file_format=True)
        try:
            yield target
        finally:
            target.unlink(missing_ok=True)  # its folder may be gone first


def _frames(file: DicomStream, count: int) -> list[bytes]:
    """Return the bytes of each frame; uncompressed ones are as long as the header says."""
    header, whole = file.header, file.pixels()
    if file.syntax not in NATIVE:
        return [encapsulate([frame]) for frame in frames_of(whole, count)]
    bits = header.integer("BitsAllocated", 0)
    pixels = header.integer("Rows", 0) * header.integer("Columns", 0)
    samples = header.integer("SamplesPerPixel", 1)
    in_pairs = header.text("PhotometricInterpretation") == "YBR_FULL_422"
    if in_pairs and len(whole) < 3 * pixels * count:
        samples = 2
    size, rest = divmod(pixels * samples * bits, 8)
    if rest:
        raise ValueError("its frames do not begin with a byte")
    if not 0 < size * count <= len(whole) < size * (count + 1):
        raise ValueError(f"its {len(whole)} bytes of pixels are not {count} frames")
    parts = (whole[at : at + size] for at in range(0, size * count, size))
    return [part + b"\0" * (len(part) % 2) for part in parts]
