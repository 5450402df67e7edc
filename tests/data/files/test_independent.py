"""What this package shows of DICOM files against what DCMTK shows of them, to 1 grey level.

Every file is shown alike, or refused by one `DataError`; `EXCLUDED` says where DCMTK itself is
wrong or reads another thing, and why.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.data import get_testdata_files
from pydicom.uid import ExplicitVRLittleEndian

from primia_flwr.data.files.images import decode
from primia_flwr.errors import DataError
from tests.data.files import dcmtk
from tests.data.files.variants import variant, write

pytestmark = pytest.mark.skipif(
    not dcmtk.INSTALLED, reason="DCMTK's programs (dcmj2pnm and others) are not installed"
)

GENERATED = 200
EXCLUDED = {
    "rtdose_expb_1frame.dcm": "32 bits in big-endian words: DCMTK takes the lower half for the "
    "upper; the little-endian original shows what is meant",
    "SC_rgb_jpeg.dcm": "DCMTK cannot read beyond its pixels: the file ends with a delimiter that "
    "it does not expect",
}
REFUSED = {
    " frames; expected": 7,
    "NumberOfFrames is": 1,  # "1A"
    "12 bits": 2,  # JPEG of 12 bits a sample needs the extra `jpeg12`
}
"""How many of pydicom's files DCMTK shows and this package refuses, by what it says."""


MIDDLE_OF_CHROMA = 1
"""What colours that were YBR may differ by beyond 1: DCMTK takes 127.5 for the middle of Cb and Cr,
where PS3.3 C.7.6.3.1.2 has 128."""


def difference(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any], *, ybr: bool) -> int:
    """Return the largest difference of a grey level or a colour."""
    if ours.shape != theirs.shape:
        return 255
    by = int(np.abs(ours.astype(int) - theirs).max())
    return max(0, by - MIDDLE_OF_CHROMA) if ybr else by


def files() -> list[Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sorted(path for path in map(Path, get_testdata_files()) if path.is_file())


def ours_of(path: Path) -> np.ndarray[Any, Any] | str:
    """Return what we show, or the sentence that refuses it."""
    try:
        return decode(path)
    except DataError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore")
def test_all_of_pydicoms_files(tmp_path: Path) -> None:
    same, refused, wrong = 0, list[str](), dict[str, object]()
    for path in files():
        ours, theirs = ours_of(path), dcmtk.shown(path, tmp_path)
        if isinstance(ours, str):
            assert ours.isprintable()
            assert str(path) in ours
            refused += [] if isinstance(theirs, str) else [ours]
        elif path.name in EXCLUDED:
            continue
        elif isinstance(theirs, str):
            wrong[path.name] = theirs
        elif (by := difference(ours, theirs, ybr=b"YBR_FULL" in path.read_bytes()[:9999])) > 1:
            wrong[path.name] = by
        else:
            same += 1
    assert not wrong
    assert same >= 75
    for says, count in REFUSED.items():
        assert sum(says in text for text in refused) == count, says
    assert len(refused) == sum(REFUSED.values()), refused


@pytest.mark.filterwarnings("ignore")
def test_generated_files(tmp_path: Path) -> None:
    wrong = dict[int, object]()
    for seed in range(GENERATED):
        made, path = variant(seed), tmp_path / "a.dcm"
        plain = made.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        is_grey = made.PhotometricInterpretation.startswith("MONOCHROME")
        write(made, path, rle=plain and seed % 4 == 0)
        if is_grey and plain and seed % 4 == 1:
            dcmtk.compress(path, "dcmcjpeg")
        elif is_grey and plain and seed % 4 == 2 and made.BitsStored > 8:
            dcmtk.compress(path, "dcmcjpls")
        theirs = dcmtk.shown(path, tmp_path)
        assert not isinstance(theirs, str), theirs
        by = difference(decode(path), theirs, ybr="YBR_FULL" in made.PhotometricInterpretation)
        if by > 1:
            wrong[seed] = by
    assert not wrong
