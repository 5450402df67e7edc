"""Data sets of which a run once was made without a word, each built as it came."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from primia_flwr.cli.command import call
from primia_flwr.cli.data.partition import COMMAND as PARTITION
from primia_flwr.config.experiment.data import DataConfig, SelectConfig
from primia_flwr.data.check import Findings, check_data
from primia_flwr.data.dataset import data_notes, load_own_site, load_site, load_test
from primia_flwr.data.manifest import Manifest
from primia_flwr.data.names import NOBODY
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.errors import DataError
from tests.data.folder_maker import dicom, dicom_set, picture, png_set, put, table

LATIN = b"caf\xe9"


def check(root: Path, **changes: Any) -> Findings:
    return check_data(DataConfig(layout="auto", root=str(root), workers=1, **changes), seed=1)


def check_table(file: Path, root: Path, **changes: Any) -> Findings:
    cfg = DataConfig(layout="manifest", manifest=str(file), root=str(root), workers=1, **changes)
    return check_data(cfg, seed=1)


def config(root: Path, tmp_path: Path, **changes: Any) -> DataConfig:
    return DataConfig(
        layout="auto", root=str(root), cache_dir=str(tmp_path / "cache"), image_size=16, **changes
    )


def only(found: Findings) -> str:
    """Return the one warning."""
    (warning,) = found.warnings
    return warning


# --- who is a patient -------------------------------------------------------------------------


def nested(root: Path) -> Path:
    for c, label in enumerate(("ill", "normal")):
        for patient in range(10):
            for study in (1, 2, 3):
                name = f"patient{c}{patient:02d}/study{study}/view1_frontal.png"
                put(root / label / name, 100 * c + 10 * patient + study)
    return root


def test_the_folder_below_the_class_is_the_patient_however_deep_its_images_lie(
    tmp_path: Path,
) -> None:
    root = nested(tmp_path / "scans")
    found = check(root)
    assert (found.ok, found.images, found.patients) == (True, 60, 20)
    assert "60 image(s) lie deeper than <class>/<patient>/<image>" in only(found)
    assert "20 in all; set data.patient_pattern" in only(found)


def test_no_patient_of_nested_studies_is_in_two_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, cache = nested(tmp_path / "scans"), f"data.cache_dir={tmp_path / 'cache'}"
    assert call(PARTITION, [f"data.root={root}", "sites=2", f"output={tmp_path / 'p'}", cache]) == 0
    assert "deeper than" in capsys.readouterr().out
    places: dict[str, set[str]] = {}
    for name in ("site-1", "site-2", "test"):
        for line in (tmp_path / "p" / f"{name}.csv").read_text().splitlines()[1:]:
            places.setdefault(line.split("/")[1], set()).add(name)
    assert len(places) == 20
    assert all(len(found) == 1 for found in places.values())


def test_a_pattern_may_say_that_a_deeper_folder_is_the_patient(tmp_path: Path) -> None:
    root = nested(tmp_path / "scans")
    found = check(root, patient_pattern=r"(?P<patient>patient\d+/study\d)")
    assert (found.patients, found.warnings) == (60, [])


def test_a_split_below_the_classes_is_no_patient_without_a_word(tmp_path: Path) -> None:
    for number, name in enumerate(("ill/train", "ill/test", "well/train", "well/test")):
        put(tmp_path / name / "x.png", number)
    assert "['test', 'train'] lie below classes and are taken for patients" in only(check(tmp_path))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P01", "p01"),
        ("P01", "P1"),
        ("P01", "P 01"),
        ("7", "007"),
        ("7", "7.0"),
        ("12345678", "1.2345678E+07"),
        ("Ann\u00e9", "Anne\u0301"),
        ("P\uff11", "P1"),
        ("P-1", "P\u20101"),
        ("P1", "P1\u200b"),
    ],
)
def test_spellings_of_a_patient_are_one_in_tables(tmp_path: Path, one: str, other: str) -> None:
    root = tmp_path / "scans"
    for number in range(6):
        put(root / f"{number}.png", number)
    rows = [one, other, "A", "B", "C", "D"]
    text = "".join(f"{i}.png,{'ab'[i % 2]},{name}\n" for i, name in enumerate(rows))
    (tmp_path / "t.csv").write_text(f"path,label,patient\n{text}", encoding="utf-8")
    found = check_table(tmp_path / "t.csv", root)
    assert (found.ok, found.patients) == (True, 5)
    assert "1 spelling(s) of patients differ from another in case, white space" in only(found)


def test_patient_ids_in_other_case_are_one_patient(tmp_path: Path) -> None:
    named = dicom_set(
        tmp_path / "scans", 8, patient=lambda c, p, k: (str.lower if k else str.upper)(f"P{c}{p}")
    )
    found = check(named)
    assert (found.ok, found.images, found.patients) == (True, 24, 16)
    assert "8 spelling(s) of patients" in only(found)


def test_spellings_in_train_and_test_are_one_patient_on_both_sides(tmp_path: Path) -> None:
    for number, name in enumerate(("train/a/P1", "train/b/P2", "test/a/p1 ", "test/b/P3")):
        put(tmp_path / name / "x.png", number)
    found = check(tmp_path)
    assert found.patients_on_both_sides == {"P1": ["test", "train"]}
    assert not found.ok
    with pytest.raises(DataError, match=r"1 patient\(s\), e.g. P1, are in the test folder"):
        load_test(config(tmp_path, tmp_path / "c"), seed=1)


@pytest.mark.parametrize(
    "nobody",
    ["ANONYMOUS", "anonymous", "nan", "None", "NA", "unknown", "Anonymized^", "???", "XXX"],
)
def test_a_placeholder_of_all_is_one_patient_and_no_training(tmp_path: Path, nobody: str) -> None:
    found = check(dicom_set(tmp_path / "scans", 8, patient=lambda *_: nobody))
    assert (found.ok, found.patients) == (False, 1)
    assert "all images are of 1 patient, 'unknown'" in found.errors[0]
    assert f"the patient of 24 image(s) is a placeholder, e.g. {nobody!r}" in found.warnings[0]


def test_a_folder_names_whom_a_placeholder_does_not(tmp_path: Path) -> None:
    for number, name in enumerate(("a/p1/x.dcm", "a/p2/x.dcm", "b/p3/x.dcm", "b/p4/x.dcm")):
        dicom(tmp_path / name, number, patient="ANONYMOUS")
    found = check(tmp_path)
    assert (found.ok, found.patients, found.warnings) == (True, 4, [])


def test_a_folder_of_several_patient_ids_is_named(tmp_path: Path) -> None:
    """Whoever de-identifies by study gives a patient several."""
    for c, label in enumerate("ab"):
        for number in range(6):
            file = tmp_path / label / f"p{number // 2}" / f"study{number}" / "x.dcm"
            dicom(file, 10 * c + number, patient=f"anon{c}{number}")
    found = check(tmp_path)
    assert (found.patients, len(found.warnings)) == (12, 2)
    assert "6 folder(s) below a class hold several PatientIDs, e.g. a/p0" in found.warnings[1]


def test_some_placeholders_are_one_patient_in_one_part(tmp_path: Path) -> None:
    root = dicom_set(
        tmp_path / "scans", 8, patient=lambda c, p, k: "nan" if k else f"PID{c}{p:02d}"
    )
    cfg = config(root, tmp_path)
    parts = [load_site(cfg, seed=1, site_index=i, num_sites=2) for i in range(2)]
    holding = [
        NOBODY in part.patients
        for part in (*(p for s in parts for p in (s.train, s.val)), load_test(cfg, seed=1))
    ]
    assert sum(holding) == 1
    assert check(root).patients == 17


def test_a_table_of_nan_patients_is_no_training(tmp_path: Path) -> None:
    root = png_set(tmp_path / "scans")
    file = table(tmp_path / "t.csv", root, "path,label,patient", lambda p: f"{p},{p.parts[0]},nan")
    found = check_table(file, root)
    assert (found.ok, found.patients) == (False, 1)


def test_a_table_of_dicom_files_has_their_patients(tmp_path: Path) -> None:
    root = dicom_set(tmp_path / "scans")
    file = table(tmp_path / "t.csv", root, "path,label", lambda p: f"{p},{p.parts[0]}")
    found = check_table(file, root)
    assert (found.ok, found.images, found.patients, found.warnings) == (True, 18, 12, [])


def test_an_empty_cell_is_filled_by_the_header_and_a_name_is_not(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", 1, patient="P1")
    dicom(tmp_path / "b.dcm", 2, patient="P2")
    dicom(tmp_path / "c.dcm", 3, patient="")
    (tmp_path / "t.csv").write_text("path,label,patient\na.dcm,x,\nb.dcm,y,Q\nc.dcm,y,\n")
    cfg = DataConfig(layout="manifest", manifest=str(tmp_path / "t.csv"))
    patients = [sample.patient for sample in read_manifest(cfg, seed=1).samples]
    assert patients == ["P1", "Q", "image:c.dcm"]
    found = check_data(cfg, seed=1)
    assert "add the column 'patient' to the manifest" in only(found)


def test_a_pattern_finds_the_patients_of_a_table_that_names_none(tmp_path: Path) -> None:
    root = png_set(tmp_path / "scans")
    file = table(tmp_path / "t.csv", root, "path,label", lambda p: f"{p},{p.parts[0]}")
    assert check_table(file, root, patient_pattern=r"(?P<patient>pat\d+)").patients == 12
    assert check_table(file, root).unknown_patients == 18


def test_a_name_that_most_images_share_is_asked_about(tmp_path: Path) -> None:
    names = lambda c, p, k: "HOSPITAL" if p else f"P{c}"  # noqa: E731
    found = check(dicom_set(tmp_path / "scans", 6, patient=names))
    assert "16 of 18 images are of one patient, 'HOSPITAL'" in only(found)


# --- identical images ---------------------------------------------------------------------------


def test_a_test_folder_that_is_a_copy_of_train_is_named(tmp_path: Path) -> None:
    png_set(tmp_path / "s" / "train", 8)
    for number, file in enumerate(sorted((tmp_path / "s" / "train").rglob("*.png"))[:6]):
        copy = tmp_path / "s" / "test" / file.relative_to(tmp_path / "s" / "train").parts[0]
        (copy / f"T{number}").mkdir(parents=True)
        shutil.copy(file, copy / f"T{number}" / "x.png")
    put(tmp_path / "s" / "test" / "normal" / "T9" / "x.png", 77)
    found = check(tmp_path / "s")
    assert "6 of 7 test image(s) are in train or val, too, identical" in found.warnings[1]
    notes = data_notes(config(tmp_path / "s", tmp_path), seed=1)
    assert notes[-1].startswith("6 of 7 test images are in train or val, too")


def test_images_of_the_same_pixels_in_another_format_are_named_too(tmp_path: Path) -> None:
    png_set(tmp_path / "train", 4)
    put(tmp_path / "test" / "ill" / "q1" / "x.tif", 0)  # as train/ill/pat0000/img0.png
    put(tmp_path / "test" / "normal" / "q2" / "x.png", 99)
    found = check(tmp_path)
    assert any("1 of 2 test image(s) are in train or val, too" in w for w in found.warnings)


def twins(root: Path, second: str = "x.png") -> Path:
    """Ten pairs of patients who share a picture, and forty patients of one image."""
    for pair in range(10):
        for half in range(2):
            put(root / "ab"[pair % 2] / f"p{pair}{half}" / ("x.png", second)[half], pair)
            put(root / "ab"[pair % 2] / f"p{pair}{half}" / "own.png", 100 + 2 * pair + half)
    for patient in range(40):
        put(root / "ab"[patient % 2] / f"q{patient}" / "x.png", 1000 + patient)
    return root


@pytest.mark.parametrize("second", ["x.png", "x.tif"])
@pytest.mark.parametrize("seed", range(3))
def test_patients_who_share_a_picture_stay_together(tmp_path: Path, seed: int, second: str) -> None:
    cfg = config(twins(tmp_path / "s", second), tmp_path)
    sites = [load_site(cfg, seed=seed, site_index=i, num_sites=2) for i in range(2)]
    parts = [p for s in sites for p in (s.train, s.val)] + [load_test(cfg, seed=seed)]
    assert sum(len(part) for part in parts) == 80
    for pair in range(10):
        holders = [i for i, p in enumerate(parts) if {f"p{pair}0", f"p{pair}1"} & set(p.patients)]
        assert len(holders) == 1
    assert "name(s) of patients share a picture with another one" in data_notes(cfg, seed=seed)[-1]


def test_empty_pictures_tie_nobody_together(tmp_path: Path) -> None:
    for label in "ab":
        for patient in range(8):
            file = tmp_path / "s" / label / f"{label}{patient}" / "x.png"
            file.parent.mkdir(parents=True)
            note = PngInfo()
            note.add_text("of", f"{label}{patient}")
            Image.fromarray(np.full((24, 24), 7, np.uint8)).save(file, pnginfo=note)
    cfg = config(tmp_path / "s", tmp_path)
    sites = [load_site(cfg, seed=1, site_index=i, num_sites=2) for i in range(2)]
    assert all(len(part) for site in sites for part in (site.train, site.val))


@pytest.mark.parametrize("second", ["x.png", "x.tif"])
def test_the_partition_on_disk_keeps_them_together_as_a_simulation_does(
    tmp_path: Path, second: str
) -> None:
    root = twins(tmp_path / "s", second)
    arguments = [f"data.root={root}", "data.image_size=16", "sites=2", "seed=1", "quiet=true"]
    arguments.append(f"data.cache_dir={tmp_path / 'cache'}")
    assert call(PARTITION, [*arguments, f"output={tmp_path / 'p'}"]) == 0
    for index in range(2):
        site = load_site(config(root, tmp_path), seed=1, site_index=index, num_sites=2)
        lines = (tmp_path / "p" / f"site-{index + 1}.csv").read_text().splitlines()[1:]
        paths = {line.split(",")[0] for line in lines}
        assert paths == {*site.train.files, *site.val.files}


def test_identical_images_at_two_sites_and_of_two_patients_are_named(tmp_path: Path) -> None:
    for name, seed in (("1", 1), ("2", 1), ("3", 3), ("4", 4)):
        put(tmp_path / f"{name}.png", seed)
    (tmp_path / "t.csv").write_text(
        "path,label,patient,site\n1.png,a,p,ulm\n2.png,a,q,bonn\n3.png,b,r,ulm\n4.png,b,s,bonn\n"
    )
    found = check_table(tmp_path / "t.csv", tmp_path)
    assert any("identical images at several sites" in text for text in found.warnings)
    assert any("identical images of several patients" in text for text in found.warnings)


# --- classes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("normal", "Normal"),
        ("normal", "normal "),
        (
            unicodedata.normalize("NFC", "gesund \u00e4"),
            unicodedata.normalize("NFD", "gesund \u00e4"),
        ),
        ("no finding", "no  finding"),
    ],
)
def test_two_spellings_of_a_class_are_one_and_said(tmp_path: Path, first: str, second: str) -> None:
    png_set(tmp_path, classes=("ill", first))
    put(tmp_path / second / "p" / "x.png", 9)
    found = check(tmp_path)
    assert sorted(found.classes) == sorted(["ill", first])
    assert found.classes[first]["images"] == 10
    assert f"{second!a} as {first!a}" in only(found)


def test_both_spellings_stay_where_both_are_named(tmp_path: Path) -> None:
    png_set(tmp_path, classes=("a", "A"))
    manifest = read_manifest(
        DataConfig(layout="folder", root=str(tmp_path), classes=["A", "a"]), seed=1
    )
    assert manifest.label_counts().tolist() == [9, 9]
    one = read_manifest(DataConfig(layout="folder", root=str(tmp_path), classes=["a", "b"]), seed=1)
    assert one.label_counts().tolist() == [18, 0]


def test_train_and_test_may_spell_classes_and_splits_otherwise(tmp_path: Path) -> None:
    png_set(tmp_path / "Train ", classes=("NORMAL", "PNEUMONIA"))
    png_set(tmp_path / "TEST", 3, classes=("Normal", "Pneumonia"), first=1)
    found = check(tmp_path)
    assert (found.ok, list(found.classes)) == (True, ["NORMAL", "PNEUMONIA"])
    assert found.splits == {
        "test": {"images": 8, "patients": 6},
        "train": {"images": 18, "patients": 12},
    }
    assert "'Normal' as 'NORMAL', 'Pneumonia' as 'PNEUMONIA'" in only(found)


def test_a_class_of_one_side_is_named(tmp_path: Path) -> None:
    png_set(tmp_path / "train")
    png_set(tmp_path / "test", 2, classes=("ill", "other"), first=1)
    found = check(tmp_path)
    assert found.warnings == [
        "class(es) ['other'] are in test only; expected every class in train and in test",
        "class(es) ['normal'] are in train or val only; expected every class in train and in test",
    ]


def test_combined_labels_are_said_to_be_classes(tmp_path: Path) -> None:
    root = png_set(tmp_path / "scans")
    names = {"ill": "Effusion|Infiltration", "normal": "No Finding"}
    file = table(
        tmp_path / "t.csv",
        root,
        "path,label,patient",
        lambda p: f"{p},{'Effusion' if p.name == 'img1.png' else names[p.parts[0]]},{p.parts[1]}",
    )
    found = check_table(file, root)
    assert len(found.classes) == 3
    assert "1 class(es) combine several labels, e.g. Effusion|Infiltration" in only(found)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("A|B", "C"), True),
        (("A; B", "C"), True),
        (("A,B", "A"), True),
        (("A + B", "B"), True),
        (("['A', 'B']", "C"), True),
        (("cells, large", "cells, small"), False),
        (("A and B", "C"), False),
        (("A|", "C"), False),
    ],
)
def test_which_labels_are_combined(tmp_path: Path, classes: tuple[str, ...], said: bool) -> None:
    png_set(tmp_path, classes=classes)
    notes = read_manifest(DataConfig(layout="folder", root=str(tmp_path)), seed=1).notes
    assert any("combine several labels" in note for note in notes) == said


@pytest.mark.parametrize(
    ("choice", "counts", "said"),
    [
        ("keep", {"-1.0": 6, "0.0": 6, "1.0": 6}, "6 row(s) have the label '-1.0', uncertain"),
        ("drop", {"0.0": 6, "1.0": 6}, "uncertain: left out"),
        ("negative", {"0.0": 12, "1.0": 6}, "taken as negative, the class '0.0'"),
        ("positive", {"0.0": 6, "1.0": 12}, "taken as positive, the class '1.0'"),
    ],
)
def test_uncertain_labels_are_what_the_setting_says(
    tmp_path: Path, choice: str, counts: dict[str, int], said: str
) -> None:
    root = png_set(tmp_path / "scans")
    numbers = {"ill": "1.0", "normal": "0.0"}

    def row(path: Path) -> str:
        label = "-1.0" if path.name == "img1.png" else numbers[path.parts[0]]
        return f"{path},{label},{path.parts[1]}"

    file = table(tmp_path / "t.csv", root, "path,label,patient", row)
    found = check_table(file, root, uncertain=choice)
    assert {name: n["images"] for name, n in found.classes.items()} == counts
    assert said in only(found)
    assert found.left_out == ({"uncertain label": 6} if choice == "drop" else {})
    refused = check_table(file, root, uncertain="refuse")
    assert "6 row(s) have the label '-1.0', uncertain; expected none" in refused.errors[0]


def test_minus_one_and_one_are_two_classes(tmp_path: Path) -> None:
    root = png_set(tmp_path / "scans")
    file = table(
        tmp_path / "t.csv",
        root,
        "path,label,patient",
        lambda p: f"{p},{'1' if p.parts[0] == 'ill' else '-1'},{p.parts[1]}",
    )
    found = check_table(file, root, uncertain="refuse")
    assert (found.ok, found.warnings, list(found.classes)) == (True, [], ["-1", "1"])


# --- what is not read -----------------------------------------------------------------------------


def test_files_of_other_kinds_are_counted_by_suffix(tmp_path: Path) -> None:
    png_set(tmp_path)
    for number in range(4):
        put(tmp_path / "ill" / f"b{number}.bmp", number)
    for name in ("a.webp", "a.gif", "c.jp2"):
        put(tmp_path / "ill" / name, 1)
    for name in ("n.nii", "m.nii.gz", "z.zip", "raw", "note.txt", "list.csv"):
        (tmp_path / "normal" / name).write_bytes(b"x" * 300)
    put(tmp_path / "ill" / ".hidden.png", 1)
    put(tmp_path / "beside.png", 2)
    (tmp_path / "empty").mkdir()
    found = check(tmp_path)
    assert found.left_out == {
        "": 1, "bmp": 4, "csv": 1, "gif": 1, "image beside the class folders": 1, "jp2": 1,
        "nii": 1, "nii.gz": 1, "txt": 1, "webp": 1, "zip": 1,
    }  # fmt: skip
    unread, beside, hidden, empty = found.warnings
    assert unread.startswith(
        "11 file(s) are not read, by suffix: 1 without, 4 .bmp, 1 .gif, 1 .jp2, 1 .nii, "
        "1 .nii.gz, 1 .webp, 1 .zip (e.g. ill/a.gif)"
    )
    assert beside == "1 image(s) beside the class folders are not read, e.g. beside.png"
    assert hidden == "1 hidden image(s) or folder(s) are not read"
    assert empty == "1 folder(s) beside the classes have no image that is read, e.g. empty"


def test_dicom_without_a_suffix_is_read(tmp_path: Path) -> None:
    root = dicom_set(tmp_path, name="IM{index:05d}")
    assert check(root).kinds == {"dicom": 18}


def test_a_linked_patient_is_read_and_said(tmp_path: Path) -> None:
    root = png_set(tmp_path / "scans")
    put(tmp_path / "elsewhere" / "p9" / "x.png", 9)
    (root / "ill" / "p9").symlink_to(tmp_path / "elsewhere" / "p9")
    found = check(root)
    assert (found.images, found.patients) == (19, 13)
    assert only(found) == (
        "1 linked folder(s) are read, of which 1 lead out of data.root, e.g. ill/p9"
    )


def test_links_to_a_folder_above_are_not_followed(tmp_path: Path) -> None:
    root = png_set(tmp_path / "scans")
    (root / "loop").symlink_to(root)
    (root / "ill" / "up").symlink_to(root)
    (root / "normal" / "self").symlink_to(root / "normal")
    (root / "ill" / "far").symlink_to(tmp_path)
    found = check(root)
    assert (found.images, list(found.classes)) == (18, ["ill", "normal"])
    assert only(found) == "4 link(s) to a folder above are not followed, e.g. loop"


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    root = png_set(tmp_path / "scans", 2)
    (tmp_path / "x").mkdir()
    put(tmp_path / "x" / "y" / "1.png", 5)
    (tmp_path / "x" / "y" / "back").symlink_to(tmp_path / "x")
    (root / "ill" / "out").symlink_to(tmp_path / "x")
    found = check(root)
    assert found.images == 7
    assert "1 link(s) to a folder above are not followed, e.g. ill/out/y/back" in found.warnings


def test_a_pipe_is_named_and_never_opened(tmp_path: Path) -> None:
    png_set(tmp_path, 3)
    os.mkfifo(tmp_path / "ill" / "pipe.png")
    os.mkfifo(tmp_path / "ill" / "pipe.dcm")
    found = check(tmp_path)
    assert found.images == 8
    assert only(found) == "2 pipe(s) or device(s) are not read, e.g. ill/pipe.dcm"


def test_a_broken_link_is_an_unreadable_image(tmp_path: Path) -> None:
    png_set(tmp_path, 3)
    (tmp_path / "ill" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert list(check(tmp_path).unreadable) == ["ill/gone.png"]


def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    png_set(tmp_path, 3)
    (tmp_path / "ill" / "closed").mkdir()
    scandir = os.scandir

    def refusing(folder: Path) -> Any:
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr("primia_flwr.data.files.listing.os.scandir", refusing)
    assert "1 folder(s) may not be read by this user, e.g. ill/closed" in only(check(tmp_path))


@pytest.mark.parametrize("name", [LATIN, b"a\nb", b"a\rb", "a\u2028b".encode()])
def test_names_that_no_table_can_hold_are_refused_before_anything_is_done(
    tmp_path: Path, name: bytes
) -> None:
    root = png_set(tmp_path / "scans")
    shutil.copy(
        root / "ill" / "pat0000" / "img0.png", os.fsencode(root / "ill") + b"/" + name + b".png"
    )
    found = check(root)
    assert not found.ok
    assert "the names of 1 files are not UTF-8 or break a line, e.g. ill/" in found.errors[0]
    found.errors[0].encode("utf-8")
    cfg = config(root, tmp_path)
    for load in (
        lambda: load_own_site(cfg, seed=1, name="ulm"),
        lambda: load_site(cfg, seed=1, site_index=0, num_sites=2),
        lambda: load_test(cfg, seed=1),
    ):
        with pytest.raises(DataError, match="are not UTF-8 or break a line"):
            load()


def test_a_class_whose_name_is_not_text_is_refused(tmp_path: Path) -> None:
    root = png_set(tmp_path / "scans")
    os.rename(root / "ill", os.fsencode(root) + b"/" + LATIN)
    assert "are not UTF-8 or break a line" in check(root).errors[0]


def test_names_with_markup_go_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from primia_flwr.cli.data.check import COMMAND

    root = png_set(tmp_path / "[bold]scans[" / "]", 4, classes=("[red]", "[bold]b"))
    (root / "[red]" / "[link=x]p").mkdir()
    (root / "[red]" / "[link=x]p" / "x[1].png").write_text("no image")
    assert call(COMMAND, [f"data.root='{root}'"]) == 1
    out = capsys.readouterr().out
    assert "[red]/[link=x]p/x[1].png" in out
    assert "class [red]" in out
    assert f"{root}" in out


# --- what looks like the public set ---------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["dcm", "png", "jpg"])
def test_exports_that_are_named_like_the_public_set_are_class_folders(
    tmp_path: Path, suffix: str
) -> None:
    classes = ("NORMAL", "PNEUMONIA")
    if suffix == "dcm":
        dicom_set(tmp_path, classes=classes, name="IM-{patient:04d}-{number:04d}.dcm")
        patients = 12
    else:
        for number in range(6):
            for c, label in enumerate(classes):
                put(tmp_path / label / f"IM-{number:04d}-0001.{suffix}", 10 * c + number)
        patients = 12
    found = check(tmp_path)
    assert (found.ok, found.patients, list(found.classes)) == (True, patients, list(classes))


def test_dicom_files_of_the_sets_names_on_both_sides_are_not_the_set(tmp_path: Path) -> None:
    for number in range(3):
        dicom(tmp_path / "NORMAL" / f"IM-{number:04d}-0001.dcm", number, patient=f"n{number}")
        file = tmp_path / "PNEUMONIA" / f"person{number}_virus_1.dcm"
        dicom(file, 10 + number, patient=f"p{number}")
    assert check(tmp_path).patients == 6


def test_what_contradicts_the_set_is_not_to_be_moved(tmp_path: Path) -> None:
    put(tmp_path / "NORMAL" / "IM-0001-0001.png", 1)
    put(tmp_path / "PNEUMONIA" / "IM-0002-0001.png", 2)
    cfg = DataConfig(layout="pneumonia", root=str(tmp_path))
    with pytest.raises(DataError, match=r"for images of your own set data\.layout=folder") as error:
        read_manifest(cfg, seed=1)
    assert "move" not in str(error.value)


# --- data.select ----------------------------------------------------------------------------------


def mixed(root: Path) -> Path:
    def tags(p: int, k: int) -> dict[str, Any]:
        return {
            "BurnedInAnnotation": "YES" if p == 0 else "NO",
            "ViewPosition": "LL" if p % 3 == 0 else "PA",
            "Modality": "CT" if p == 1 else "DX",
            "PresentationIntentType": "FOR PROCESSING" if p == 2 else "FOR PRESENTATION",
        }

    return dicom_set(root, tags=tags)


def test_a_census_names_what_does_not_belong(tmp_path: Path) -> None:
    """A CT slice, lateral views, burned-in text, twin UIDs, files that are not read."""
    root = mixed(tmp_path / "scans")
    twin = {"SOPInstanceUID": "1.2.3", "ViewPosition": "PA"}
    dicom(root / "ill" / "twin1.dcm", 501, patient="T1", StudyInstanceUID="1.5", **twin)
    dicom(root / "normal" / "twin2.dcm", 502, patient="T2", StudyInstanceUID="1.5", **twin)
    put(root / "ill" / "x.bmp", 1)
    found = check(root)
    assert found.ok
    assert found.census.modality == {"CT": 4, "DX": 16}
    assert found.census.view == {"LL": 6, "PA": 14}
    assert found.census.intent == {"": 2, "FOR PRESENTATION": 16, "FOR PROCESSING": 2}
    assert found.census.burned_in == {"": 2, "NO": 16, "YES": 2}
    assert found.census.photometric == {"MONOCHROME2": 20}
    assert found.census.twins == [["ill/twin1.dcm", "normal/twin2.dcm"]]
    assert found.census.shared_studies == {"1.5": ["T1", "T2"]}
    assert (found.census.headers, found.census.others, found.census.studies) == (20, 0, 1)
    assert [text.split(":")[0] for text in found.warnings] == [
        "1 file(s) are not read, by suffix",
        "4 image(s) of another modality (CT) among DX",
        "6 lateral view(s) among frontal ones",
        "2 image(s) FOR PROCESSING, raw, not as radiologists see them",
        "2 image(s) say that text is burned in, perhaps a patient's name",
        "2 image(s) share a SOP instance UID (e.g. ill/twin1.dcm)",
        "1 study(ies) of several patients, e.g. of T1 and T2",
    ]
    assert found.to_dict()["census"]["modality"] == {"CT": 4, "DX": 16}


@pytest.mark.parametrize(
    ("select", "left", "out"),
    [
        ({"modality": ["DX", "CR"]}, 14, {"modality CT": 4}),
        ({"modality": ["dx"]}, 14, {"modality CT": 4}),
        ({"view": ["PA", "AP"]}, 12, {"view LL": 6}),
        ({"intent": ["for presentation"]}, 16, {"intent FOR PROCESSING": 2}),
        ({"burned_in": "drop"}, 16, {"burned-in text": 2}),
        ({"modality": ["DX"], "view": ["PA"]}, 8, {"modality CT": 4, "view LL": 6}),
    ],
)
def test_what_is_selected_is_read_everywhere(
    tmp_path: Path, select: dict[str, Any], left: int, out: dict[str, int]
) -> None:
    root = mixed(tmp_path / "scans")
    found = check(root, select=SelectConfig(**select))
    assert (found.images, found.left_out) == (left, out)
    assert f"data.select leaves out {18 - left} image(s)" in found.warnings[0]
    cfg = config(root, tmp_path, select=SelectConfig(**select), test_fraction=0.0)
    own = load_own_site(cfg, seed=1, name="ulm")
    assert len(own.train) + len(own.val) == left
    site = load_site(cfg, seed=1, site_index=0, num_sites=1)
    assert len(site.train) + len(site.val) == left
    assert any("data.select leaves out" in note for note in data_notes(cfg, seed=1))


def test_a_header_that_does_not_say_is_left_out_unless_it_may(tmp_path: Path) -> None:
    root = mixed(tmp_path / "scans")
    dicom(root / "ill" / "silent.dcm", 800, patient="S")
    put(root / "normal" / "p" / "x.png", 801)
    assert check(root, select=SelectConfig(view=["PA"])).left_out == {
        "view LL": 6, "view not said": 2,
    }  # fmt: skip
    assert check(root, select=SelectConfig(view=["PA", ""])).left_out == {"view LL": 6}


def test_burned_in_text_may_be_refused_and_nothing_may_not_remain(tmp_path: Path) -> None:
    root = mixed(tmp_path / "scans")
    refused = check(root, select=SelectConfig(burned_in="refuse"))
    assert "2 image(s) say that text is burned in, e.g. ill/IM0000.dcm" in refused.errors[0]
    none = check(root, select=SelectConfig(modality=["MG"]))
    assert (
        "data.select leaves out all 18 image(s) (4 modality CT, 14 modality DX)" in none.errors[0]
    )


def test_pictures_are_what_they_should_be() -> None:
    assert (picture(1) != picture(2)).any()
    assert isinstance(Manifest(Path(), (), ()).people(), tuple)


def test_images_that_lie_elsewhere_are_told(tmp_path: Path) -> None:
    assert check(tmp_path).errors[0].startswith(f"{tmp_path}: found no images; expected folders")
    for number in range(3):
        (tmp_path / f"{number}.bmp").write_bytes(b"BM")
    assert "found no images, but 3 file(s) .bmp, which are not read" in check(tmp_path).errors[0]
    for number in range(4):
        put(tmp_path / f"{number}.png", number)
    assert "but 4 elsewhere, e.g. 0.png; expected folders" in check(tmp_path).errors[0]


def test_linked_images_outside_of_the_root_are_said(tmp_path: Path) -> None:
    root = png_set(tmp_path / "s")
    put(tmp_path / "elsewhere.png", 99)
    (root / "ill" / "p77").mkdir()
    (root / "ill" / "p77" / "x.png").symlink_to(tmp_path / "elsewhere.png")
    (root / "ill" / "p78").mkdir()
    (root / "ill" / "p78" / "x.png").symlink_to(next((root / "normal").rglob("*.png")))  # inside
    found = check(root)
    assert found.images == 20
    assert "1 linked image(s) lie outside of data.root and are read, e.g. ill/p77/x.png" in [
        text for text in found.warnings if "linked image" in text
    ]


@pytest.mark.parametrize("name", ["DICOMDIR", "dicomdir", "Thumbs.db", "thumbs.db"])
def test_the_by_catch_of_disks_is_passed_over(tmp_path: Path, name: str) -> None:
    root = png_set(tmp_path)
    (root / "ill" / name).write_bytes(bytes(128) + b"DICM" + bytes(200))
    assert (check(root).ok, check(root).images) == (True, 18)


@pytest.mark.parametrize("hidden", [".old/a.png", ".b.png"])
def test_a_hidden_class_and_a_hidden_image_beside_the_classes_are_said(
    tmp_path: Path, hidden: str
) -> None:
    png_set(tmp_path)
    put(tmp_path / hidden, 1)
    (tmp_path / ".git").mkdir()  # nothing that could be an image
    assert "1 hidden image(s) or folder(s) are not read" in check(tmp_path).warnings
