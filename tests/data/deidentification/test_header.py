"""No attribute of the basic profile is left, whatever holds it; an independent table says which."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from primia_flwr.data.deidentification.header import bare_dicom
from primia_flwr.data.files.images import decode
from primia_flwr.data.pseudonyms import Pseudonyms
from primia_flwr.errors import DataError
from tests.data.deidentification.headers import (
    CURVES,
    OVERLAYS,
    SECRET,
    SECRET_DATES,
    SECRET_UID,
    everything,
    filled,
    pixels_of,
    profile,
    radiograph,
    write,
)

KEYS = Pseudonyms(b"k" * 32)
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
REPLACED = {"Z", "D", "U", "Z_D", "X_Z", "X_D", "X_Z_D", "X_Z_U_STAR"}


def bare(path: Path, patient: str = "p1") -> Dataset:
    return pydicom.dcmread(io.BytesIO(bare_dicom(path, patient, KEYS).content))


def elements(found: Dataset) -> Iterator[DataElement]:
    for element in found:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)


def nested(item: Dataset, sequence: str, *rest: str) -> Dataset:
    """Put a data set into a sequence of sequences."""
    for name in (*reversed(rest), sequence):
        outer = Dataset()
        setattr(outer, name, [item])
        item = outer
    return item


def told(found: Dataset) -> Dataset:
    """Give a data set every attribute of the profile, in every sequence that is kept as well."""
    every = everything()
    found.update({tag: element for tag, element in every.items() if tag not in found})
    lut = Dataset()
    lut.LUTDescriptor, lut.LUTData = [4096, 0, 16], np.arange(4096, dtype="<u2").tobytes()
    lut["LUTData"].VR = "OW"
    lut.LUTExplanation = SECRET
    lut.update({tag: element for tag, element in everything(0).items() if tag not in lut})
    found.VOILUTSequence = [lut, everything(0)]
    measures = nested(everything(1), "PixelMeasuresSequence")
    measures.update(everything(0))
    found.SharedFunctionalGroupsSequence = [measures, everything(0)]
    return found


def test_the_independent_table_is_the_whole_one() -> None:
    actions = profile()
    assert len(actions) == 655
    assert actions[0x00100010] == "Z"
    assert actions[0x00104000] == "X"


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_nothing_of_the_basic_profile_is_left(tmp_path: Path, syntax: UID) -> None:
    found = told(radiograph())
    for group in (CURVES, CURVES + 0x1E, OVERLAYS + 0x02, OVERLAYS + 0x1E):
        found.add(DataElement(group << 16 | 0x3000, "OW", b"GEHEIM"))
        found.add(DataElement(group << 16 | 0x4000, "LT", SECRET))
    path = write(tmp_path / "a.dcm", found, syntax)
    original = pydicom.dcmread(path)
    copy, actions = bare(path), profile()
    assert sum(tag in original for tag in actions) > 600
    for element in elements(copy):
        action = actions.get(element.tag, "")
        assert action != "X", element
        assert element.tag.group not in range(CURVES, CURVES + 0x100), element
        assert element.tag.group not in range(OVERLAYS, OVERLAYS + 0x100), element
        assert not element.tag.is_private, element
        if action in REPLACED and element.value:
            assert element.value != original[element.tag].value, element
    content = path.with_suffix(".bare")
    content.write_bytes(bare_dicom(path, "p1", KEYS).content)
    for text in (SECRET, SECRET_UID, *SECRET_DATES, "61413", "P01"):
        assert text.encode() not in content.read_bytes(), text
    assert np.array_equal(decode(path), decode(content))


@pytest.mark.parametrize("tag", [0x00080070, 0x00081030, 0x00104000, 0x00321060, 0x00380500])
def test_an_attribute_is_recorded_by_its_tag_alone(tmp_path: Path, tag: int) -> None:
    found = radiograph()
    element = filled(tag)
    assert element is not None
    found.add(element)
    record = bare_dicom(write(tmp_path / "a.dcm", found), "p1", KEYS).removed
    assert f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {element.keyword}" in record
    assert SECRET not in str(record)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("Modality", SECRET), ("BodyPartExamined", SECRET), ("ViewPosition", SECRET),
        ("ImageType", ["ORIGINAL", "PRIMARY", SECRET]), ("RescaleType", SECRET),
        ("PatientOrientation", [SECRET, "F"]), ("ConversionType", SECRET), ("Laterality", SECRET),
        ("PresentationIntentType", SECRET), ("PixelIntensityRelationship", SECRET),
    ],
)  # fmt: skip
def test_a_word_that_the_standard_does_not_know_goes(
    tmp_path: Path, keyword: str, value: object
) -> None:
    found = radiograph()
    setattr(found, keyword, value)
    content = bare_dicom(write(tmp_path / "a.dcm", found), "p1", KEYS).content
    assert SECRET.encode() not in content


@pytest.mark.parametrize("keyword", ["SeriesNumber", "InstanceNumber", "WindowCenter", "KVP"])
def test_a_number_that_is_a_text_goes(tmp_path: Path, keyword: str) -> None:
    found = radiograph()
    vr = pydicom.datadict.dictionary_VR(keyword)
    tag = pydicom.datadict.tag_for_keyword(keyword)
    assert tag is not None
    found.add(DataElement(tag, "LO", SECRET))
    copy = bare(write(tmp_path / "a.dcm", found))
    assert keyword not in copy
    assert vr in ("IS", "DS")


def test_a_wrong_vr_hides_nothing(tmp_path: Path) -> None:
    found = radiograph()
    found.add(DataElement(0x00200060, "UN", SECRET.encode()))
    found.add(DataElement(0x00281050, "LO", SECRET))
    found.add(DataElement(0x00280106, "LT", SECRET))
    content = bare_dicom(write(tmp_path / "a.dcm", found), "p1", KEYS).content
    assert SECRET.encode() not in content


def test_what_shows_the_image_stays(tmp_path: Path) -> None:
    found = radiograph(
        WindowCenter="1000", WindowWidth="500", RescaleSlope="-1", RescaleIntercept="4095",
        ViewPosition="PA", BodyPartExamined="CHEST", SeriesNumber="3", PixelSpacing=["0.1", "0.2"],
        PresentationIntentType="FOR PRESENTATION", ImageType=["DERIVED", "PRIMARY"],
    )  # fmt: skip
    copy = bare(write(tmp_path / "a.dcm", found))
    assert (copy.WindowCenter, copy.WindowWidth, copy.RescaleSlope) == (1000, 500, -1)
    assert (copy.ViewPosition, copy.BodyPartExamined, copy.Modality) == ("PA", "CHEST", "DX")
    assert list(copy.ImageType) == ["DERIVED", "PRIMARY"]
    assert list(copy.PixelSpacing) == [0.1, 0.2]
    assert copy.PatientIdentityRemoved == "YES"
    assert copy.LongitudinalTemporalInformationModified == "MODIFIED"
    assert [code.CodeValue for code in copy.DeidentificationMethodCodeSequence] == [
        "113100",
        "113107",
    ]


def test_identity_is_a_pseudonym(tmp_path: Path) -> None:
    copy = bare(write(tmp_path / "a.dcm", radiograph()), "pabc")
    assert (copy.PatientID, str(copy.PatientName)) == ("pabc", "pabc")
    assert (copy.PatientBirthDate, copy.AccessionNumber) == ("", "")
    assert copy.SOPClassUID == "1.2.840.10008.5.1.4.1.1.1.1"
    assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID


def test_uids_are_new_and_the_same_everywhere(tmp_path: Path) -> None:
    first = bare(write(tmp_path / "a.dcm", radiograph("P01", SOPInstanceUID="1.2.3.10")))
    second = bare(write(tmp_path / "b.dcm", radiograph("P02", SOPInstanceUID="1.2.3.11")))
    assert first.StudyInstanceUID == second.StudyInstanceUID != "1.2.3.2"
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert UID(first.StudyInstanceUID).is_valid
    other = bare_dicom(tmp_path / "a.dcm", "p1", Pseudonyms(b"o" * 32))
    assert pydicom.dcmread(io.BytesIO(other.content)).StudyInstanceUID != first.StudyInstanceUID


def test_dates_move_by_patient(tmp_path: Path) -> None:
    def days(patient: str, date: str) -> np.datetime64:
        copy = bare(write(tmp_path / "a.dcm", radiograph(StudyDate=date)), patient)
        moved = str(copy.StudyDate)
        return np.datetime64(f"{moved[:4]}-{moved[4:6]}-{moved[6:]}")

    assert days("p1", "20200131") - days("p1", "20200101") == np.timedelta64(30, "D")
    assert days("p1", "20200131") != days("p2", "20200131")
    assert days("p1", "20200131") < np.datetime64("2020-01-01")


@pytest.mark.parametrize("date", ["20201331", "2020", "GEHEIM", "20200101\\20200102", ""])
def test_what_is_no_date_goes(tmp_path: Path, date: str) -> None:
    found = radiograph()
    found.add(DataElement(0x00080020, "LO", date))
    copy = bare(write(tmp_path / "a.dcm", found))
    assert not copy.get("StudyDate")
    assert "StudyTime" not in copy


def test_dates_of_nobody_go(tmp_path: Path) -> None:
    copy = bare(write(tmp_path / "a.dcm", radiograph()), "")
    assert "StudyDate" not in copy
    assert copy.PatientID == ""


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_an_overlay_in_unused_bits_is_cleared(tmp_path: Path, signed: bool, syntax: UID) -> None:
    values = np.arange(32 * 24, dtype="<u2").reshape(32, 24) * 5 & 0x0FFF
    hidden = values | np.where(np.arange(24) % 3 == 0, 0x8000, 0).astype("<u2")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    found = radiograph()
    pixels_of(found, hidden.astype(f"{order}u2"), stored=12, signed=signed)
    found.add(DataElement(0x60000102, "US", 15))
    path = write(tmp_path / "a.dcm", found, syntax)
    result = bare_dicom(path, "p1", KEYS)
    copy = pydicom.dcmread(io.BytesIO(result.content))
    stored = np.frombuffer(copy.PixelData, "<u2").reshape(32, 24)
    filled_up = np.where(signed & (values >> 11 == 1), values | 0xF000, values)
    assert np.array_equal(stored, filled_up)
    assert "unused bits of pixels" in result.removed


def test_an_overlay_in_a_compressed_stream_is_cleared(tmp_path: Path) -> None:
    values = np.arange(32 * 24, dtype="<u2").reshape(32, 24) * 5 & 0x0FFF
    hidden = values | np.where(np.arange(24) % 3 == 0, 0x8000, 0).astype("<u2")
    found = radiograph()
    pixels_of(found, hidden, stored=12)
    found.add(DataElement(0x60000102, "US", 15))
    out = io.BytesIO()
    Image.fromarray(hidden).save(out, "JPEG2000", no_jp2=True, irreversible=False)
    found.PixelData = encapsulate([out.getvalue()])
    found["PixelData"].is_undefined_length = True
    path = write(tmp_path / "a.dcm", found, JPEG2000Lossless)
    result = bare_dicom(path, "p1", KEYS)
    copy = pydicom.dcmread(io.BytesIO(result.content))
    assert copy.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert np.array_equal(np.frombuffer(copy.PixelData, "<u2").reshape(32, 24), values)
    assert "unused bits of pixels" in result.removed
    again = tmp_path / "b.dcm"
    again.write_bytes(result.content)
    assert np.array_equal(decode(path), decode(again))


def test_a_comment_in_a_compressed_stream_goes(tmp_path: Path) -> None:
    found = radiograph()
    values = (np.arange(32 * 24) % 251).astype(np.uint8).reshape(32, 24)
    pixels_of(found, values, stored=8)
    out = io.BytesIO()
    Image.fromarray(values).save(out, "JPEG", comment=SECRET, quality=95)
    found.PixelData = encapsulate([out.getvalue()])
    found["PixelData"].is_undefined_length = True
    path = write(tmp_path / "a.dcm", found, JPEGBaseline8Bit)
    result = bare_dicom(path, "p1", KEYS)
    assert SECRET.encode() not in result.content
    assert "COM" in result.removed
    again = tmp_path / "b.dcm"
    again.write_bytes(result.content)
    assert np.array_equal(decode(path), decode(again))


def test_padding_beyond_the_stored_bits_stays(tmp_path: Path) -> None:
    values = np.full((32, 24), 0xFFFF, "<u2")
    values[8:] = 100
    values[9, 9] = 200
    found = radiograph(PixelPaddingValue=0xFFFF)
    pixels_of(found, values, stored=12)
    path = write(tmp_path / "a.dcm", found)
    again = tmp_path / "b.dcm"
    again.write_bytes(bare_dicom(path, "p1", KEYS).content)
    assert np.array_equal(decode(path), decode(again))


def test_data_after_the_pixels_goes(tmp_path: Path) -> None:
    found = radiograph()
    found.PixelData = found.PixelData + b"GEHEIM" * 4
    found.add(DataElement(0xFFFCFFFC, "OB", b"GEHEIM"))
    result = bare_dicom(write(tmp_path / "a.dcm", found), "p1", KEYS)
    assert SECRET.encode() not in result.content
    assert "data after the pixels" in result.removed


def test_rle_stays_compressed(tmp_path: Path) -> None:
    found = radiograph()
    found.file_meta = pydicom.dataset.FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.compress(RLELossless)
    path = write(tmp_path / "a.dcm", found, RLELossless)
    again = tmp_path / "b.dcm"
    again.write_bytes(bare_dicom(path, "p1", KEYS).content)
    assert np.array_equal(decode(path), decode(again))
    assert pydicom.dcmread(again).file_meta.TransferSyntaxUID == RLELossless


@pytest.mark.parametrize(
    ("modality", "said", "more", "flagged"),
    [
        ("DX", "YES", {}, True), ("DX", "NO", {}, False), ("US", "NO", {}, False),
        ("DX", None, {}, False), ("US", None, {}, True), ("SC", None, {}, True),
        ("XC", None, {}, True), ("OT", None, {}, True), ("CT", None, {}, False),
        ("", None, {}, True), ("DX", None, {"ConversionType": "WSD"}, True),
        ("CT", None, {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, True),
    ],
)  # fmt: skip
def test_burned_in_text_is_flagged(
    tmp_path: Path, modality: str, said: str | None, more: dict[str, object], flagged: bool
) -> None:
    found = radiograph(Modality=modality, **more)
    del found.BurnedInAnnotation
    if said:
        found.BurnedInAnnotation = said
    assert bool(bare_dicom(write(tmp_path / "a.dcm", found), "p1", KEYS).burned_in) == flagged


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    found = radiograph()
    del found.PixelData
    found.EncapsulatedDocument = b"%PDF GEHEIM 1"
    with pytest.raises(DataError, match="without pixels"):
        bare_dicom(write(tmp_path / "a.dcm", found), "p1", KEYS)
