"""Headers of every kind: in any transfer syntax, without meta, damaged, missing."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from primia_flwr.data.census import Header, read_header, take_census
from primia_flwr.data.misfits import misfits
from tests.data.folder_maker import dicom, put

TAGS = {
    "ViewPosition": "PA",
    "PresentationIntentType": "FOR PRESENTATION",
    "BurnedInAnnotation": "NO",
    "BodyPartExamined": "CHEST",
    "Manufacturer": "Acme GmbH",
    "StudyInstanceUID": "1.2.3",
    "SOPInstanceUID": "1.2.4",
}
EXPECTED = Header(
    "P1",
    "DX",
    "PA",
    "FOR PRESENTATION",
    "NO",
    "CHEST",
    "MONOCHROME2",
    "Acme GmbH",
    "1.2.4",
    "1.2.3",
)


@pytest.mark.parametrize(
    "syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_a_header_is_read_in_any_transfer_syntax(tmp_path: Path, syntax: str | None) -> None:
    file = dicom(tmp_path / "x", 1, patient="P1 ", **TAGS)
    if syntax:
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = syntax
        plain = {
            "implicit_vr": syntax == ImplicitVRLittleEndian,
            "little_endian": syntax != ExplicitVRBigEndian,
        }
        pydicom.dcmwrite(file, dataset, enforce_file_format=True, **plain)
    assert read_header(file) == EXPECTED


def test_a_deflated_file_is_inflated_no_further_than_its_header(tmp_path: Path) -> None:
    file = dicom(tmp_path / "x", 1, patient="P1", **TAGS)
    dataset = pydicom.dcmread(file)
    dataset.PixelData = b"\0" * (200 << 20)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(file, enforce_file_format=True)
    assert file.stat().st_size < 1 << 20
    assert read_header(file) == EXPECTED


@pytest.mark.parametrize(
    ("meaning", "view"),
    [
        ("postero-anterior", "PA"),
        ("Antero-Posterior", "AP"),
        ("left lateral", "LL"),
        ("odd", "ODD"),
    ],
)
def test_a_coded_view_counts_where_no_other_is(tmp_path: Path, meaning: str, view: str) -> None:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "R-1", "SRT", meaning
    found = read_header(dicom(tmp_path / "x.dcm", 1, ViewCodeSequence=Sequence([item])))
    assert found is not None
    assert found.view == view


def test_patients_in_other_alphabets_are_read(tmp_path: Path) -> None:
    for number, (charset, name) in enumerate(
        [
            ("ISO_IR 192", "\u5c71\u7530"),
            ("ISO_IR 100", "J\u00f6rg"),
            ("ISO_IR 144", "\u0418\u0432"),
        ]
    ):
        file = dicom(tmp_path / f"{number}.dcm", 1, SpecificCharacterSet=charset, PatientID=name)
        found = read_header(file)
        assert found is not None
        assert found.patient == name


def test_what_is_no_dicom_file_has_no_header(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")
    assert read_header(tmp_path / "pipe.dcm") is None
    assert read_header(put(tmp_path / "x.png", 1)) is None
    assert read_header(put(tmp_path / "x.png", 1).rename(tmp_path / "x.dcm")) is None
    assert read_header(tmp_path / "missing.dcm") is None
    assert read_header(tmp_path) is None
    assert read_header(Path("a\0b.dcm")) is None


def test_a_header_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 64)
    assert read_header(tmp_path / "x.dcm") == Header()


def test_damaged_headers_say_less_and_never_raise(tmp_path: Path) -> None:
    whole = dicom(tmp_path / "x.dcm", 1, patient="P1", **TAGS).read_bytes()
    rng = random.Random(1)
    for number in range(300):
        raw = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            raw[rng.randrange(132, 900)] = rng.randrange(256)
        file = tmp_path / f"{number}.dcm"
        file.write_bytes(raw[: rng.choice((len(raw), rng.randrange(132, len(raw))))])
        assert isinstance(read_header(file), Header)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "x.dcm"
    dicom(file, 1, patient="P1")
    assert read_header(file).patient == "P1"  # type: ignore[union-attr]
    dicom(file, 1, patient="Somebody else")
    assert read_header(file).patient == "Somebody else"  # type: ignore[union-attr]


def sentences(*headers: Header | None) -> list[str]:
    named = {str(number): header for number, header in enumerate(headers)}
    census = take_census(named, {name: f"p{name}" for name in named})
    return misfits(named, census)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (None, None),
        (Header(), Header()),
        (Header(modality="DX"), Header(modality="CR"), Header(modality="")),
        (Header(modality="CT"), Header(modality="CT")),
        (Header(view="LL"), Header(view="RL")),
        (Header(modality="MG", view="CC"), Header(modality="MG", view="MLO")),
        (Header(view="PA"), Header(view="AP"), Header(view="")),
        (Header(intent="FOR PRESENTATION"), None),
        (Header(burned_in="NO"),),
        (Header(uid="1"), Header(uid="2"), Header(), Header()),
        (Header(body_part="CHEST"), Header(body_part="THORAX")),
    ],
)
def test_what_belongs_together_is_not_warned_of(headers: tuple[Header | None, ...]) -> None:
    assert sentences(*headers) == []


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([Header(modality="DX")] * 2 + [Header(modality="CR"), Header(modality="MR")],
         "1 image(s) of another modality (MR) among CR, DX: data.select.modality=[CR,DX]"),
        ([Header(view="PA"), Header(view="LEFT LATERAL")], "1 lateral view(s) among frontal ones"),
        ([Header(intent="FOR PROCESSING")], "1 image(s) FOR PROCESSING"),
        ([Header(burned_in="YES")], "1 image(s) say that text is burned in"),
        ([Header(sides="2 : 1"), Header()],
         "1 image(s) have pixels that are not square (2 : 1) and are shown as if they were"),
        ([Header(uid="1")] * 3, "3 image(s) share a SOP instance UID"),
        ([Header(study="1")] * 2, "1 study(ies) of several patients, e.g. of p0 and p1"),
        ([Header(body_part="CHEST")] * 2 + [Header(body_part="HAND")],
         "1 image(s) of another body part than CHEST"),
    ],
)  # fmt: skip
def test_what_does_not_belong_is_named(headers: list[Header], said: str) -> None:
    (sentence,) = sentences(*headers)
    assert sentence.startswith(said)


@pytest.mark.parametrize(
    ("said", "sides"),
    [
        ({}, ""),
        ({"PixelAspectRatio": [1, 1]}, ""),
        ({"PixelAspectRatio": [2, 1]}, "2 : 1"),
        ({"PixelSpacing": [0.2, 0.1]}, "0.2 : 0.1"),
        ({"ImagerPixelSpacing": [0.143, 0.143]}, ""),
        ({"ImagerPixelSpacing": [0.143, 0.1435]}, ""),  # less than one in a hundred
        ({"NominalScannedPixelSpacing": [0.1, 0.3]}, "0.1 : 0.3"),
        ({"PixelSpacing": [0, 0.1]}, ""),
    ],
)
def test_pixels_that_are_not_square_are_known(
    tmp_path: Path, said: dict[str, list[float]], sides: str
) -> None:
    path = dicom(tmp_path / "a.dcm", 1, **said)
    header = read_header(path)
    assert header is not None
    assert header.sides == sides
