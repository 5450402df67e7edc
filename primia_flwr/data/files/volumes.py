"""A volume with its labels (NIfTI) to axial slices, as a radiologist looks at them.

Whatever the order and direction of the axes in the file: in a slice the first row is anterior, and
the first column is the patient's right side; the first slice is the lowest. The only door to
nibabel.
"""

import logging
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from primia_flwr.data.files.images import Pixels
from primia_flwr.data.files.regular import open_regular
from primia_flwr.errors import DataError
from primia_flwr.extras import need
from primia_flwr.storage.reading import reading

_Placed = tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]
_EIGHT = list(product((0, 1), repeat=3))
_MAX_VOXELS = 1 << 28
_EDGES = (0.5, 99.5)  # percentiles of a volume that become black and white
_NEAR = 0.01  # of a voxel's shortest side: how far apart corners of one grid may be


@dataclass(frozen=True)
class _Slices:
    """Axial slices (Z, H, W): uint8 pixels, the value of each voxel's label, and what was stored.

    `spacing`: millimetres from voxel to voxel along Z, H, W.
    """

    pixels: Pixels
    labels: npt.NDArray[np.int64]
    stored: npt.NDArray[np.float32]
    spacing: tuple[float, ...]


def load_slices(image: Path, label: Path, window: tuple[float, float] | None) -> _Slices:
    """Read a volume and its labels.

    Parameters
    ----------
    image, label : Path
        NIfTI files of one grid.
    window : tuple of float or None
        What becomes black and white, in the units of the image, e.g. Hounsfield units; None: from
        the 0.5th to the 99.5th percentile of the volume.

    Raises
    ------
    DataError
        If a file is missing, damaged, not three-dimensional, or too large, does not say how its
        axes lie or says two things, the two differ in size or place, or a label is no whole number.
    MissingExtraError
        If nibabel is not installed.
    """
    (values, where), (labels, there) = (_loaded(path) for path in (image, label))
    _check_same_grid(image, label, (values, where), (labels, there))
    whole = np.rint(labels)
    if not np.array_equal(whole, labels):
        raise DataError(
            f"{label}: has labels that are no whole numbers; expected one number a class: "
            "resample with nearest neighbours"
        )
    spacing = tuple(float(mm) for mm in _sides(where)[::-1])
    return _Slices(_toned(values, window), whole.astype(np.int64), values, spacing)


def _check_same_grid(image: Path, label: Path, one: _Placed, other: _Placed) -> None:
    (values, where), (labels, there) = one, other
    apart = float(np.abs(_corners(values, where) - _corners(labels, there)).max())
    if values.shape != labels.shape or not apart <= _NEAR * _sides(where).min():
        raise DataError(
            f"{label}: {_grid(labels, there)}; expected the grid of {image.name}, "
            f"{_grid(values, where)}, whose corners are up to {apart:.3g} mm from it: resample the "
            "labels to the image"
        )


def _corners(values: npt.NDArray[np.float32], where: npt.NDArray[np.float64]) -> Any:
    """Return where the middles of the eight outermost voxels lie, in mm: (8, 4)."""
    last = [side - 1 for side in values.shape[::-1]]  # along x, y, z
    places = [(*(n * bit for n, bit in zip(last, bits, strict=True)), 1) for bits in _EIGHT]
    return np.array(places) @ where.T


def _grid(values: npt.NDArray[np.float32], where: npt.NDArray[np.float64]) -> str:
    """Say how many voxels there are along z, y, x, and where they lie, both along x, y, z."""
    sides, first = _sides(where), where[:3, 3]
    size, place = (", ".join(map(_digits, found)) for found in (sides, first))
    turns = "; ".join(" ".join(map(_digits, row)) for row in where[:3, :3] / sides)
    shape = "x".join(map(str, values.shape))
    return f"{shape} voxels of {size} mm from {place} mm along [{turns}]"


def _digits(number: float) -> str:
    """Write a number of an affine with all digits that a header's float32 has."""
    return f"{round(float(number), 7) + 0:.7g}"


def _sides(where: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the sides of a voxel along x, y, z in millimetres."""
    return np.asarray(np.linalg.norm(where[:3, :3], axis=0), np.float64)


def _check_orientation(path: Path, volume: Any) -> None:
    """Refuse a header that does not say which side is the patient's right, or says two things."""
    import nibabel

    if not isinstance(volume, nibabel.Nifti1Pair):
        raise DataError(f"{path}: is a {type(volume).__name__}; expected NIfTI: convert it")
    header: Any = volume.header
    said = [
        (name, affine)
        for name, (affine, code) in (
            ("sform", header.get_sform(coded=True)),
            ("qform", header.get_qform(coded=True)),
        )
        if code
    ]
    ways = {name: "".join(map(str, nibabel.aff2axcodes(affine))) for name, affine in said}  # type: ignore[no-untyped-call]
    if not ways:
        raise DataError(
            f"{path}: does not say how its axes lie in the patient (sform_code and qform_code are "
            "0); expected one that does: export it again from the DICOM series"
        )
    if len(set(ways.values())) > 1:
        raise DataError(
            f"{path}: its axes run to {ways['sform']} by sform and to {ways['qform']} by qform; "
            "expected the same by both: set the wrong one's code to 0, or export it again"
        )


def _loaded(path: Path) -> _Placed:
    """Return a volume as slices (Z, H, W), and where its voxels lie in the patient."""
    need("nibabel", f"{path.name} (NIfTI)")
    import nibabel

    logging.getLogger("nibabel.global").setLevel(logging.ERROR)  # of headers that it mends
    with reading(path, error=DataError, expected="a whole NIfTI file: copy it again"):
        open_regular(path).close()
        volume: Any = nibabel.load(path)
        shape = tuple(int(side) for side in volume.shape)
        if len(shape) != 3 or not 0 < int(np.prod(shape, dtype=object)) <= _MAX_VOXELS:
            raise DataError(
                f"{path}: a grid of {shape}; expected three axes and at most {_MAX_VOXELS:,} "
                "voxels: store one volume a file"
            )
        if volume.get_data_dtype().kind not in "iufb":
            raise DataError(
                f"{path}: has several numbers a voxel ({volume.get_data_dtype().kind!r}); expected "
                "one: export it as grey values"
            )
        _check_orientation(path, volume)
        turned: Any = nibabel.as_closest_canonical(volume)  # type: ignore[no-untyped-call]
        grid = np.asarray(turned.dataobj, dtype=np.float32)
        if not np.isfinite(grid).all():
            raise DataError(
                f"{path}: has numbers that are not finite; expected finite ones: put a value of "
                "the background in their place"
            )
    # From x to the right, y to the front, z up, to rows from the front and columns from the right.
    return grid[::-1, ::-1].transpose(2, 1, 0), np.asarray(turned.affine, np.float64)


def _toned(values: npt.NDArray[np.float32], window: tuple[float, float] | None) -> Pixels:
    low, high = window or (float(edge) for edge in np.percentile(values, _EDGES))
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    scaled = np.clip((values - low) / (high - low), 0, 1) * 255
    return np.asarray(np.rint(scaled), np.uint8)
