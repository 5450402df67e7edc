"""DICOM segmentations and the images they belong to, written by highdicom."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import highdicom

KINDS = ("BINARY", "LABELMAP")
_EMPTY = (
    "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip


def write_image(path: Path, shape: tuple[int, int], *, name: str = "1", patient: str = "p") -> Path:
    """Write a slice (H, W) whose UID and place follow from a number; one series a patient."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = Dataset()
    for keyword in _EMPTY:
        setattr(dataset, keyword, "")
    dataset.PatientID, dataset.Modality = patient, "CT"
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[name, "image"])
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[patient, "study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[patient, "series"])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[patient, "place"])
    dataset.ImageOrientationPatient, dataset.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
    dataset.ImagePositionPatient, dataset.SliceThickness = [0, 0, int(name)], 1
    dataset.SeriesNumber = dataset.InstanceNumber = dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = shape
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    pixels = np.random.default_rng(int(name)).integers(0, 255, shape, np.uint8).tobytes()
    dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_segments(
    path: Path,
    images: Sequence[Path],
    pixels: Any,
    *,
    kind: str = "BINARY",
    labels: Sequence[str] = ("lung", "lesion"),
) -> Path:
    """Write what belongs to images: `pixels` (N, H, W) of numbers, or (N, H, W, segments)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Lung,
            algorithm_type="MANUAL",
        )
        for number, label in enumerate(labels, 1)
    ]
    made = highdicom.seg.Segmentation(
        source_images=[dcmread(image) for image in images],
        pixel_array=np.asarray(pixels),
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
    )
    made.save_as(path)
    return path
