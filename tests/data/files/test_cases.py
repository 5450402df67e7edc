"""Files that were once shown wrongly, refused without need, or ended the process.

`cases/` holds them, and `cases/expected` what they show; pictures by formula, no patient.
"""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from primia_flwr.data.files.dicom import read_patient
from primia_flwr.data.files.images import decode, depth_is_guessed
from primia_flwr.data.files.listing import image_files, kind_of, read_head
from primia_flwr.errors import DataError
from tests.data.files.variants import dataset, picture, set_pixels, write

CASES = Path(__file__).parent / "cases"
EXPECTED = sorted((CASES / "expected").iterdir())
ANYTHING = {"t07_f32_naninf": [(11, 11)], "p15_max4096": [(20, 20)]}
"""Pixels that no rule says: of the infinite one, and of the lone bright one, whose own is lost."""


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda path: path.stem)
def test_shown_as_expected(expected: Path) -> None:
    (path,) = (path for path in CASES.iterdir() if path.stem == expected.stem)
    found, meant = decode(path).astype(int), np.asarray(Image.open(expected)).astype(int)
    assert found.shape == meant.shape
    far = np.argwhere(np.abs(found - meant).reshape(*meant.shape[:2], -1).max(axis=2) > 1)
    assert len(far) <= len(ANYTHING.get(expected.stem, []))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("d38d_frames_text.dcm", "NumberOfFrames is 'one'; expected a number"),
        ("d47_rows_two_values.dcm", "Rows is .*; expected one number"),
        ("jls_rows.dcm", "codestream has 48 x 64 pixels of 1 sample.*header 96 x 64"),
        ("kill_jb_ok_byte.dcm", "68 bits a sample, its header 8"),
        ("jpeg_gdcm_aborts.dcm", "its decoder died of it|cannot be decoded"),
    ],
)
def test_refused_in_one_sentence(name: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        decode(CASES / name)
    assert name in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_patient_of_no_known_vr_is_none() -> None:
    assert read_patient(CASES / "patientid_vr.dcm") == ""
    assert decode(CASES / "patientid_vr.dcm").shape == (48, 64)


def test_a_dicom_file_without_suffix_and_preamble_is_found(tmp_path: Path) -> None:
    for name in ("IM00017", "d36_nometa_explicit.dcm"):
        (tmp_path / name.partition(".")[0]).write_bytes((CASES / name).read_bytes())
    (tmp_path / "notes").write_text("\x08\x00 not an image, " * 20)
    found = image_files(tmp_path)
    assert [path.name for path in found] == ["IM00017", "d36_nometa_explicit"]
    assert [kind_of(read_head(path)) for path in found] == ["dicom", "dicom"]


def test_the_depth_of_the_lone_bright_pixel_was_guessed() -> None:
    assert depth_is_guessed(CASES / "p15_max4096.png")
    assert not depth_is_guessed(CASES / "d03_negslope_window.dcm")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read memory from")
@pytest.mark.parametrize("before", [False, True])
def test_a_deflated_bomb_is_refused_before_it_is_inflated(tmp_path: Path, before: bool) -> None:
    made = dataset(syntax=DeflatedExplicitVRLittleEndian)
    set_pixels(made, picture(), allocated=16, stored=12)
    path = write(made, tmp_path / "a.dcm")
    assert decode(path).shape == (48, 64)
    raw = path.read_bytes()
    at = 132 + 12 + int.from_bytes(raw[140:144], "little")
    inflated = zlib.decompress(raw[at:], -15)
    place = inflated.index(b"\x10\0\x10\0") if before else len(inflated)
    tag = b"\x09\0\x10\x10" if before else b"\xfc\xff\xfc\xff"
    blown = inflated[:place] + tag + b"OB\0\0" + (400 << 20).to_bytes(4, "little")
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    packed = packer.compress(blown)
    packed += b"".join(packer.compress(bytes(1 << 20)) for _ in range(400))
    path.write_bytes(raw[:at] + packed + packer.compress(inflated[place:]) + packer.flush())
    code = (
        "import re, sys; from pathlib import Path\n"
        "from primia_flwr.data.files.images import decode\n"
        "from primia_flwr.errors import DataError\n"
        "try: decode(Path(sys.argv[1]))\n"
        "except DataError as error: print(error)\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) >> 10)\n"  # of it alone
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    says, peak_mib = ended.stdout.splitlines()
    assert "it inflates to more than 16,777,216 bytes" in says
    assert int(peak_mib) < 300
