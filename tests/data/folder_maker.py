"""Small data sets as hospitals have them, by formula: PNG or DICOM, in folders of two classes.

A class has `patients` patients, every second with a second image: 3 for 2, 9 for 6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CLASSES = ("ill", "normal")
_DIGITAL_XRAY = "1.2.840.10008.5.1.4.1.1.1.1"


def picture(seed: int) -> npt.NDArray[np.uint8]:
    """Return (24, 24) uint8, another one for each seed."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.integers(0, 256, (24, 24)), dtype=np.uint8)


def images(patients: int, classes: Sequence[str] = CLASSES) -> Iterator[tuple[str, int, int, int]]:
    """Yield class, patient, number and seed of every image of a set."""
    for c, name in enumerate(classes):
        for patient in range(patients):
            for number in range(1 + patient % 2):
                yield name, patient, number, 1000 * c + 10 * patient + number


def png_set(
    root: Path, patients: int = 6, classes: Sequence[str] = CLASSES, first: int = 0
) -> Path:
    """Write <class>/<patient>/<image>.png; `first` makes other pictures and patients of it."""
    for name, patient, number, seed in images(patients, classes):
        label = classes.index(name)
        file = root / name / f"pat{label}{first}{patient:02d}" / f"img{number}.png"
        put(file, first * 100_000 + seed)
    return root


def put(file: Path, seed: int) -> Path:
    """Write one picture; the format follows the name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed)).save(file)
    return file


def dicom(file: Path, seed: int, *, patient: str = "", **tags: Any) -> Path:
    """Write one DX image; further tags by keyword."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = _DIGITAL_XRAY, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset(str(file), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = _DIGITAL_XRAY, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.PatientID, dataset.PatientName = "DX", patient, "X^Y"
    pixels = picture(seed)
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB"
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    file.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(file, enforce_file_format=True)
    return file


def dicom_set(
    root: Path,
    patients: int = 6,
    *,
    classes: Sequence[str] = CLASSES,
    name: str = "IM{index:04d}.dcm",
    patient: Callable[[int, int, int], str] = lambda c, p, k: f"PID{c}{p:02d}",
    tags: Callable[[int, int], dict[str, Any]] = lambda p, k: {},
) -> Path:
    """Write <class>/<name>; `patient` of (class, patient, number), `tags` of (patient, number)."""
    for index, (label, p, number, seed) in enumerate(images(patients, classes)):
        file = root / label / name.format(index=index, patient=p + 1, number=number + 1)
        named = patient(classes.index(label), p, number)
        dicom(file, seed, patient=named, **tags(p, number))
    return root


def table(file: Path, root: Path, header: str, row: Callable[[Path], str]) -> Path:
    """Write a CSV with a row for every image below `root`, given its path below it."""
    paths = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
    lines = [header, *map(row, paths)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file
