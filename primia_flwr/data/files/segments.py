"""A DICOM segmentation to the number of the segment at each pixel of one image.

Binary segments and label maps say which pixels belong to a segment; fractional ones do not, and
are refused. The only door to highdicom. Source: PS3.3, A.51 and C.8.20.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from primia_flwr.data.files.decoding.claims import MAX_PIXELS, check_ratio
from primia_flwr.data.files.decoding.show import refusing
from primia_flwr.data.files.decoding.stream import EXPLICIT, NATIVE, DicomStream, open_dicom
from primia_flwr.data.files.listing import is_dicom
from primia_flwr.errors import DataError
from primia_flwr.extras import need

_BINARY = "1.2.840.10008.5.1.4.1.1.66.4"  # or fractional, as SegmentationType says
_LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
_MAX_BITS = 8 * MAX_PIXELS  # of all frames of all segments


@dataclass(frozen=True)
class Segments:
    """The number of the segment at each pixel (H, W), 0 outside, and each segment's label."""

    numbers: npt.NDArray[np.int64]
    labels: Mapping[int, str]


def read_segments(path: Path, image: Path) -> Segments:
    """Read what a segmentation says of one image, which its references must name.

    Parameters
    ----------
    path
        A DICOM SEG, uncompressed or deflated; it may belong to a whole series.
    image
        The image. Of one that is no DICOM file the segmentation must name a single image.

    Raises
    ------
    DataError
        If the file is damaged, fractional, compressed or of another kind, belongs to other images,
        or two segments overlap.
    MissingExtraError
        If highdicom is not installed.
    """
    need("highdicom", f"{path}: a DICOM segmentation", instead="a PNG with the class as the value")
    with refusing(path), open_dicom(path) as file:
        _check_kind(file)
        found = _segmentation(file)
        numbers = _numbers(path, found, _source(path, found, image))
        labels = {
            int(number): str(found.get_segment_description(number).segment_label).strip()
            for number in found.segment_numbers
        }
    return Segments(numbers, labels)


def _check_kind(file: DicomStream) -> None:
    header = file.header
    kind, how = header.text("SOPClassUID"), header.text("SegmentationType").upper()
    if kind not in (_BINARY, _LABEL_MAP):
        raise DataError(
            f"{header.path}: a DICOM file that is no segmentation (SOPClassUID {kind!r:.70}); "
            "expected a mask: a SEG, or a PNG or TIFF with the class as the value"
        )
    if kind == _BINARY and how != "BINARY":
        raise header.refuse("SegmentationType", how, "BINARY, for a pixel has one class")
    if file.syntax not in NATIVE or not file.little:
        raise header.refuse(
            "TransferSyntaxUID", file.syntax, "an uncompressed or deflated segmentation"
        )
    sides = [header.integer(name, 0) for name in ("Rows", "Columns")]
    frames, bits = header.integer("NumberOfFrames", 1), header.integer("BitsAllocated", 1)
    if min(*sides, frames, bits) < 1 or sides[0] * sides[1] * frames * bits > _MAX_BITS:
        raise DataError(
            f"{header.path}: claims {frames} frames of {sides[1]} x {sides[0]} pixels of {bits} "
            f"bits; expected at least one, and at most {_MAX_BITS:,} bits: export it smaller"
        )
    check_ratio(header.path, sides[0] * sides[1] * frames * bits // 8, file.size)


def _segmentation(file: DicomStream) -> Any:
    """Return highdicom's view of a file whose header was checked."""
    import highdicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    dataset = file.header.dataset
    dataset.add_new("PixelData", file.vr or "OW", file.pixels())
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(EXPLICIT)  # of what was read, inflated where it was
    return highdicom.seg.Segmentation.from_dataset(dataset, copy=False)


def _source(path: Path, found: Any, image: Path) -> str:
    """Return the SOP instance UID of the image, which the segmentation must refer to."""
    named = sorted({str(uids[-1]) for uids in found.get_source_image_uids()})
    if is_dicom(image):
        with refusing(image), open_dicom(image) as file:
            uid = file.header.text("SOPInstanceUID")
        if uid in named:
            return uid
        raise DataError(
            f"{path}: the segmentation belongs to {len(named)} other image(s); expected one of "
            f"{image.name!r:.100}, whose SOPInstanceUID is {uid!r:.70}: pair it with its own image"
        )
    if len(named) == 1:
        return named[0]
    raise DataError(
        f"{path}: the segmentation belongs to {len(named)} images, and {image.name!r:.100} does "
        "not say which it is; expected a DICOM image beside it, or one mask an image"
    )


def _numbers(path: Path, found: Any, source: str) -> npt.NDArray[np.int64]:
    try:
        pixels = found.get_pixels_by_source_instance(
            [source],
            combine_segments=True,
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
    except RuntimeError as error:
        if "overlap" not in str(error):
            raise
        raise DataError(
            f"{path}: two segments overlap; expected one class a pixel: export one of them, or "
            "give the pixels that both have to one"
        ) from None
    numbers: npt.NDArray[np.int64] = np.asarray(pixels[0]).astype(np.int64)
    return numbers
