"""A folder is copied whole or not at all; patients stay patients, and no name of them is left."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

from primia_flwr.cli.main import run
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.deidentification import folder as folder_module
from primia_flwr.data.pseudonyms import open_pseudonyms
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.errors import DataError
from primia_flwr.storage import plain_csv
from tests.data.deidentification.headers import (
    SECRET,
    SECRET_DATES,
    SECRET_UID,
    everything,
    profile,
    radiograph,
    write,
)

NAMES = ("Anna^Smith", "Ben^Jones", "P0017")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Class folders of three patients with two DICOM files each, and two PNG files of others."""
    root = tmp_path / "scans"
    for label in ("NORMAL", "PNEUMONIA"):
        for number, name in enumerate(NAMES):
            found = radiograph(name, SOPInstanceUID=f"1.2.3.{len(label)}.{number}")
            found.InstitutionName = "GEHEIM"
            write(root / label / name.replace("^", "_") / f"{name}.dcm", found)
        (root / label / "Carla_Berg").mkdir()
        image = Image.fromarray(np.full((20, 20), len(label) * 9, np.uint8))
        image.save(root / label / "Carla_Berg" / "Carla_Berg_1.png")
    return root


@pytest.fixture
def deidentify(tmp_path: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*words: str, output: str = "out") -> tuple[int, dict[str, Any]]:
        code = run([
            "data", "deidentify", f"data.root={scans}", f"output_dir={tmp_path / output}",
            f"data.cache_dir={tmp_path / 'state/cache'}", "data.workers=1", *words,
        ])  # fmt: skip
        told = capsys.readouterr()
        call.told = told.out + told.err  # type: ignore[attr-defined]
        lines = told.out.splitlines()
        return code, json.loads(lines[-1]) if lines else {}

    return call


CLASSES = "data.classes=[NORMAL,PNEUMONIA]"


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_patients_stay_patients_and_nothing_names_them(
    tmp_path: Path, scans: Path, deidentify: Any
) -> None:
    before = files(scans)
    code, result = deidentify(CLASSES)
    assert (code, result["images"], result["patients"], result["left_out"]) == (0, 8, 4, 0)
    assert files(scans) == before
    copies = files(tmp_path / "out")
    assert len(copies) == 8
    for path, content in copies.items():
        assert path.split("/")[0] in ("NORMAL", "PNEUMONIA")
        for name in ("Smith", "Jones", "P0017", "Berg", "GEHEIM"):
            assert name not in path
            assert name.encode() not in content
    cfg = DataConfig(layout="folder", root=str(tmp_path / "out"))
    found = read_manifest(cfg, seed=1)
    by_patient = [found.samples[i].patient for i in range(8)]
    assert sorted(map(by_patient.count, set(by_patient))) == [2, 2, 2, 2]


def test_folders_are_pseudonyms_unless_they_are_classes(tmp_path: Path, deidentify: Any) -> None:
    code, result = deidentify()
    assert (code, result["images"]) == (0, 8)
    for path in files(tmp_path / "out"):
        assert "NORMAL" not in path
        assert "PNEUMONIA" not in path
        assert "_" not in path
    assert "data.classes=[...]" in deidentify.told


def test_the_same_key_gives_the_same_pseudonyms(tmp_path: Path, deidentify: Any) -> None:
    deidentify(CLASSES)
    deidentify(CLASSES, output="again")
    assert files(tmp_path / "out") == files(tmp_path / "again")
    key = tmp_path / "state/private/pseudonyms.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    key.unlink()
    deidentify(CLASSES, output="other")
    assert not set(files(tmp_path / "out")) & set(files(tmp_path / "other"))


def test_all_is_for_its_owner_only(tmp_path: Path, deidentify: Any) -> None:
    old = os.umask(0)
    try:
        _, result = deidentify(CLASSES)
    finally:
        os.umask(old)
    for folder in (tmp_path / "out", Path(result["record"])):
        for path in (folder, *folder.rglob("*")):
            wanted = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_the_record_has_tags_and_no_values(tmp_path: Path, scans: Path, deidentify: Any) -> None:
    _, result = deidentify(CLASSES)
    record = Path(result["record"])
    assert record.is_relative_to(tmp_path / "state/private")
    shared = (record / "record.json").read_text() + (record / "record.csv").read_text()
    for name in ("Smith", "Jones", "P0017", "Berg", "GEHEIM"):
        assert name not in shared
    values = json.loads((record / "record.json").read_text())
    copies = sorted(files(tmp_path / "out"))
    assert sorted(values["files"]) == copies
    assert values["removed"]["(0008,0080) InstitutionName"] == 6
    with (record / "record.csv").open(newline="") as stream:
        rows = list(plain_csv.DictReader(stream))
    assert {row["action"] for row in rows} == {"removed", "replaced"}
    with (record / "originals.csv").open(newline="") as stream:
        originals = list(plain_csv.DictReader(stream))
    assert sorted(row["original"] for row in originals) == sorted(files(scans))
    assert sorted(row["copy"] for row in originals) == copies
    assert deidentify.told.count(str(tmp_path / "state/private")) >= 1
    key = open_pseudonyms(tmp_path / "state/private").key
    assert key.hex() not in deidentify.told


def test_a_dry_run_writes_no_copy(tmp_path: Path, deidentify: Any) -> None:
    code, result = deidentify(CLASSES, "dry_run=true")
    assert (code, result["images"], result["record"]) == (0, 8, None)
    assert not (tmp_path / "out").exists()
    assert "would be copied" in deidentify.told
    assert [path.name for path in (tmp_path / "state/private").iterdir()] == ["pseudonyms.key"]


def test_what_cannot_be_read_is_named_and_not_copied(
    tmp_path: Path, scans: Path, deidentify: Any
) -> None:
    (scans / "NORMAL" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (scans / "stray.png").write_bytes((scans / "NORMAL/Carla_Berg/Carla_Berg_1.png").read_bytes())
    (scans / "letter.pdf").write_bytes(b"%PDF Smith")
    code, result = deidentify(CLASSES)
    assert (code, result["images"], result["left_out"]) == (1, 8, 2)
    assert result["no_images"] == {"pdf": 1}
    assert "broken.png" in deidentify.told
    assert "stray.png" in deidentify.told
    assert len(files(tmp_path / "out")) == 8


def test_text_in_the_pixels_is_flagged_or_left_out(
    tmp_path: Path, scans: Path, deidentify: Any
) -> None:
    write(scans / "NORMAL/x/1.dcm", radiograph("x1", BurnedInAnnotation="YES", Modality="US"))
    code, result = deidentify(CLASSES)
    assert (code, result["images"], result["burned_in"]) == (0, 9, 1)
    assert result["burned_in_unchecked"] == 3
    assert "text is burned in" in deidentify.told
    code, result = deidentify(CLASSES, "burned_in=leave_out", output="strict")
    assert (code, result["images"], result["left_out"]) == (1, 8, 1)


def test_a_mixed_folder_loses_the_basic_profile(
    tmp_path: Path, scans: Path, deidentify: Any
) -> None:
    filled_in = radiograph("P0099", SOPInstanceUID="1.2.3.99")
    every = everything()
    filled_in.update({tag: one for tag, one in every.items() if tag not in filled_in})
    write(scans / "NORMAL/m/full.dcm", filled_in)
    write(scans / "NORMAL/m/ct.dcm", radiograph("P0099", Modality="CT"))
    write(scans / "NORMAL/m/lateral", radiograph("P0099", ViewPosition="LL"))
    write(scans / "NORMAL/m/text.dcm", radiograph("P0099", BurnedInAnnotation="YES"))
    write(scans / "NORMAL/m/twin.dcm", radiograph("P0099", SOPInstanceUID="1.2.3.99"))
    (scans / "NORMAL/m/cut.dcm").write_bytes((scans / "NORMAL/m/ct.dcm").read_bytes()[:900])
    (scans / "NORMAL/m/old.bmp").write_bytes(b"BM P0099")
    code, result = deidentify(CLASSES)
    assert (code, result["images"], result["left_out"]) == (1, 13, 1)
    assert (result["no_images"], result["burned_in"]) == ({"bmp": 1}, 1)
    assert "cut.dcm" in deidentify.told
    copies = [pydicom.dcmread(path) for path in (tmp_path / "out").rglob("*.dcm")]
    actions = profile()
    for copy in copies:
        assert not [one for one in copy if actions.get(one.tag) == "X"]
    content = b"".join(files(tmp_path / "out").values())
    for text in (SECRET, SECRET_UID, *SECRET_DATES, "P0099", "1.2.3.99"):
        assert text.encode() not in content
    uids = [copy.SOPInstanceUID for copy in copies]
    assert len(uids) - len(set(uids)) == 3  # a pair and three alike stay so: data check names them


def test_nothing_is_replaced_and_no_original_written_to(
    tmp_path: Path, scans: Path, deidentify: Any
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    for output in ("out", "scans", "scans/out", "."):
        code, _ = deidentify(output=output)
        assert code == 2
    link = tmp_path / "link"
    link.symlink_to(scans)
    assert deidentify(output="link/out")[0] == 2
    assert (tmp_path / "out" / "mine").read_text() == "x"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["data.root=''"], "expected a folder with images"),
        (["data.root=nowhere"], "expected a folder with images"),
        (["output_dir=''"], "output_dir is empty"),
        (["burned_in=blur"], "expected one of flag"),
        (["data=synthetic", "data.root=''"], "expected images of patients"),
        (["data.classes=[A,B]"], "not in data.classes"),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path, deidentify: Any, words: list[str], sentence: str
) -> None:
    assert deidentify(*words)[0] == 2
    assert sentence in deidentify.told
    assert len(deidentify.told.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_of_a_run_that_fails(
    tmp_path: Path, deidentify: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def full(draft: Path, path: str, content: bytes) -> None:
        calls.append(path)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module, "_write", full)
    code, _ = deidentify(CLASSES)
    assert code == 2
    assert "No space left on device" in deidentify.told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scans", "state"]
    assert [path.name for path in (tmp_path / "state/private").iterdir()] == ["pseudonyms.key"]


def test_a_manifest_comes_with_its_copies(tmp_path: Path, scans: Path, deidentify: Any) -> None:
    table = tmp_path / "site.csv"
    rows = ["path,label,patient,site,split"]
    rows += [
        f"{path},{path.split('/')[0]},{'Anna' if 'Smith' in path else path},east,train"
        for path in files(scans)
    ]
    table.write_text("\n".join(rows))
    code, result = deidentify(f"data.manifest={table}")
    assert (code, result["images"]) == (0, 8)
    text = (tmp_path / "out" / "manifest.csv").read_text()
    assert "Anna" not in text
    assert "Smith" not in text
    cfg = DataConfig(
        layout="manifest", manifest=str(tmp_path / "out/manifest.csv"), root=str(tmp_path / "out")
    )
    found = read_manifest(cfg, seed=1)
    assert len(found) == 8
    assert len(found.patients()) == 7
    assert {sample.site for sample in found.samples} == {"east"}


@pytest.mark.parametrize(
    ("name", "same"),
    [("p0017", True), (" P0017 ", True), ("P17", True), ("P0018", False)],
)
def test_spellings_of_a_patient_are_one(
    tmp_path: Path, scans: Path, deidentify: Any, name: str, same: bool
) -> None:
    write(scans / "NORMAL/z/z.dcm", radiograph(name))
    assert deidentify(CLASSES)[1]["patients"] == 4 + (not same)


@pytest.mark.parametrize("name", ["ANONYMOUS", "", "nan", "???"])
def test_a_placeholder_gets_no_pseudonym(tmp_path: Path, name: str, deidentify: Any) -> None:
    scans = tmp_path / "more"
    for number in range(2):
        write(scans / f"{number}.dcm", radiograph(name))
    _, result = deidentify(f"data.root={scans}")
    assert (result["patients"], result["patient_unknown"]) == (0, 2)
    for path in (tmp_path / "out").rglob("*.dcm"):
        assert pydicom.dcmread(path).PatientID == ""


def test_a_pattern_says_who_a_picture_is_of(tmp_path: Path, deidentify: Any) -> None:
    scans = tmp_path / "more"
    scans.mkdir()
    for name in ("smith_1", "smith_2", "jones_1"):
        Image.fromarray(np.full((20, 20), len(name) + ord(name[-1]), np.uint8)).save(
            scans / f"{name}.png"
        )
    _, result = deidentify(f"data.root={scans}", "data.patient_pattern='(?P<patient>[a-z]+)_'")
    assert result["patients"] == 2
    assert not any("smith" in path for path in files(tmp_path / "out"))


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, deidentify: Any, mode: int) -> None:
    deidentify(CLASSES)
    (tmp_path / "state/private/pseudonyms.key").chmod(mode)
    assert deidentify(CLASSES, output="more")[0] == 2
    assert "so others can read it" in deidentify.told


def test_a_key_of_another_length_is_refused(tmp_path: Path) -> None:
    open_pseudonyms(tmp_path)
    (tmp_path / "pseudonyms.key").write_bytes(b"short")
    with pytest.raises(DataError, match="5 bytes"):
        open_pseudonyms(tmp_path)


def test_names_that_are_no_utf8_go_through(tmp_path: Path, scans: Path, deidentify: Any) -> None:
    folder = os.fsencode(scans / "NORMAL") + b"/M\xfcller"
    os.mkdir(folder)
    image = (scans / "NORMAL/Carla_Berg/Carla_Berg_1.png").read_bytes()
    with open(folder + b"/M\xfcller.png", "wb") as file:
        file.write(image)
    assert deidentify(CLASSES, output="refused")[0] == 2
    assert "not UTF-8" in deidentify.told
    code, result = deidentify()
    assert (code, result["images"]) == (0, 9)
    originals = (Path(result["record"]) / "originals.csv").read_bytes()
    assert b"M\xfcller.png" in originals
