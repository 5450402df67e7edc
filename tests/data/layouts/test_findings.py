"""Layouts of several findings an image, on small files as the releases write them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from primia_flwr.cli.main import run as main
from primia_flwr.config.experiment.data import DataConfig, SyntheticConfig
from primia_flwr.config.load import compose_experiment
from primia_flwr.config.rows import TASKS
from primia_flwr.data.check import check_data
from primia_flwr.data.dataset import load_site, load_test
from primia_flwr.data.drawing.findings import FINDINGS
from primia_flwr.data.manifest import Manifest
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.errors import ConfigError, DataError


def read(layout: str, root: Path, *classes: str, **changes: Any) -> Manifest:
    given = {"task": "multilabel", "root": str(root), "classes": list(classes), **changes}
    return read_manifest(DataConfig(layout=layout, **given), seed=1)


def found(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    return {sample.path: sample.findings for sample in manifest.samples}


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(root / name)


# --- A table of one's own ---

OWN = "path,edema,nodule,patient,site\na.png,1,0,P1,x\nb.png,,1.0,P2,x\nc.png,-1,0,P3,y\n"


def own(folder: Path, text: str = OWN, **changes: Any) -> Manifest:
    (folder / "t.csv").write_text(text, encoding="utf-8")
    put(folder, "a.png")
    classes = changes.pop("classes", ["edema", "nodule"])
    return read("manifest", folder, *classes, manifest=str(folder / "t.csv"), **changes)


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({}, [(1, 0), (-1, 1), (-1, 0)]),
        ({"uncertain": "negative"}, [(1, 0), (-1, 1), (0, 0)]),
        ({"uncertain": "positive"}, [(1, 0), (-1, 1), (1, 0)]),
        ({"uncertain": "drop"}, [(1, 0), (-1, 1)]),
        ({"unmentioned": "negative"}, [(1, 0), (0, 1), (-1, 0)]),
    ],
)
def test_a_table_of_findings(
    tmp_path: Path, changes: dict[str, Any], labels: list[tuple[int, ...]]
) -> None:
    manifest = own(tmp_path, **changes)
    assert list(found(manifest).values()) == labels
    assert manifest.classes == ("edema", "nodule")
    assert manifest.several
    assert [s.patient for s in manifest.samples] == ["P1", "P2", "P3"][: len(labels)]
    assert manifest.samples[0].site == "x"
    assert any("uncertain" in note for note in manifest.notes)


def test_only_named_findings_are_read_and_images_without_a_known_label_are_left_out(
    tmp_path: Path,
) -> None:
    manifest = own(tmp_path, OWN.replace("edema", "other").replace("nodule", "edema")
                   .replace("P2", "P2").replace("1.0", ""), classes=["other", "edema"])  # fmt: skip
    assert found(manifest) == {"a.png": (1, 0), "c.png": (-1, 0)}
    assert manifest.left_out == {"no known label": 1}
    assert "1 image(s) of which no label is known are left out" in manifest.notes


def test_images_are_dealt_by_their_rarest_finding(tmp_path: Path) -> None:
    text = "path,edema,nodule\na.png,1,1\nb.png,1,0\nc.png,0,0\nd.png,0,\n"
    manifest = own(tmp_path, text)
    assert [manifest.strata[s.label] for s in manifest.samples] == [
        "nodule", "edema", "(none)", "(none)",
    ]  # fmt: skip
    assert manifest.label_counts().tolist() == [1, 1, 2]
    manifest.write_csv(tmp_path / "out.csv")
    again = read("manifest", tmp_path, "edema", "nodule", manifest=str(tmp_path / "out.csv"))
    assert found(again) == found(manifest)


@pytest.mark.parametrize(
    ("text", "changes", "words"),
    [
        (OWN, {"uncertain": "refuse"}, r"1 image\(s\) have an uncertain label; expected none"),
        (OWN.replace("nodule", "nodul"), {}, r"t.csv: has no column 'nodule'; expected one line"),
        (OWN.replace("site", "nodule"), {}, "has 'nodule' twice"),
        ("path,edema,nodule\n", {}, "has no rows"),
        (OWN.replace("a.png,1", "a.png,2"), {}, r"line 2: edema is '2'; expected 1 \(present\)"),
        (OWN.replace("a.png,1", "a.png,-0"), {}, r"line 2: edema is '-0'; expected 1 \(present\)"),
        (OWN.replace("a.png,1", "a.png,yes"), {}, r"line 2: edema is 'yes'"),
        (OWN.replace("b.png", "a.png"), {}, r"names a.png 2 times; expected each image once"),
        (OWN.replace("b.png", "../b.png"), {}, "the path .*b.png leads out of"),
        (OWN.replace("b.png", "/b.png"), {}, "the path .*b.png leads out of"),
        (OWN.replace("b.png", ""), {}, r"line 3: path is ''"),
        (OWN.replace("P1,x", "P1,x,7"), {}, r"line 2: path is 'a.png' and the line has 6 value"),
        ("path,edema,nodule\na.png,,\n", {}, "no image has a known label of edema, nodule"),
    ],
)
def test_a_wrong_table_is_refused_in_a_sentence(
    tmp_path: Path, text: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        own(tmp_path, text, **changes)
    assert "\n" not in str(caught.value)


def test_findings_are_named_and_are_no_other_column(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.classes=\[\] with data.task=multilabel; expected"):
        own(tmp_path, classes=[])
    with pytest.raises(ConfigError, match="'site' is another column"):
        own(tmp_path, classes=["edema", "site"])


def test_data_and_task_that_do_not_fit_are_told_apart(tmp_path: Path) -> None:
    put(tmp_path, "ill/a.png", "well/b.png")
    with pytest.raises(ConfigError, match="one label an image; expected several findings: set"):
        read("folder", tmp_path)
    chexpert(tmp_path)
    with pytest.raises(ConfigError, match="set task=multilabel"):
        read("chexpert", tmp_path, "Edema", "Fracture", task="classification")


# --- CheXpert ---

CHEXPERT = """Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Edema,Fracture,Support Devices
CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,F,68,Frontal,AP,1.0,,,
CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,F,87,Frontal,AP,,-1.0,1.0,
CheXpert-v1.0-small/train/patient00002/study1/view1_lateral.jpg,F,83,Lateral,,,1.0,0.0,1.0
"""


FIRST = "train/patient00001/study1/view1_frontal.jpg"


def chexpert(root: Path, text: str = CHEXPERT) -> None:
    (root / "train.csv").write_text(text, encoding="utf-8")
    put(root, FIRST)
    valid = text.replace("train/patient", "valid/patient6").replace("train/", "valid/")
    (root / "valid.csv").write_text(valid, encoding="utf-8")


def test_chexpert(tmp_path: Path) -> None:
    root = tmp_path / "CheXpert-v1.0-small"
    root.mkdir()
    chexpert(root)
    manifest = read("chexpert", root, "Edema", "Fracture", "Support Devices")
    # A report without a finding denies edema and fracture, and says nothing of devices.
    assert found(manifest)[FIRST] == (0, 0, -1)
    assert found(manifest)["train/patient00002/study2/view1_frontal.jpg"] == (-1, 1, -1)
    assert found(manifest)["train/patient00002/study1/view1_lateral.jpg"] == (1, 0, 1)
    of = {sample.path: sample for sample in manifest.samples}
    assert (of[FIRST].patient, of[FIRST].split) == ("patient00001", "train")
    assert sorted({sample.split for sample in manifest.samples}) == ["train", "val"]
    assert len(manifest) == 6
    ones = read("chexpert", root, "Edema", "Fracture", uncertain="positive", unmentioned="negative")
    assert found(ones)["train/patient00002/study2/view1_frontal.jpg"] == (1, 1)
    # The root may hold the release's folder, which the paths begin with.
    for name in ("train.csv", "valid.csv"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    above = read("chexpert", tmp_path, "Edema", "Fracture")
    assert f"CheXpert-v1.0-small/{FIRST}" in found(above)


@pytest.mark.parametrize("called", ["chex", "CheXpert-v1.0", "Daten"])
def test_chexpert_below_a_root_of_another_name(tmp_path: Path, called: str) -> None:
    root = tmp_path / called
    root.mkdir()
    chexpert(root)
    put(root, "valid/patient600001/study1/view1_frontal.jpg")
    assert sorted(found(read("chexpert", root, "Edema", "Fracture"))) == [
        FIRST,
        "train/patient00002/study1/view1_lateral.jpg",
        "train/patient00002/study2/view1_frontal.jpg",
        "valid/patient600001/study1/view1_frontal.jpg",
        "valid/patient600002/study1/view1_lateral.jpg",
        "valid/patient600002/study2/view1_frontal.jpg",
    ]


def test_every_table_of_chexpert_is_read_also_compressed_and_in_capitals(tmp_path: Path) -> None:
    chexpert(tmp_path)
    packed = gzip.compress((tmp_path / "train.csv").read_bytes())
    (tmp_path / "train.csv").unlink()
    (tmp_path / "train.csv.gz").write_bytes(packed)
    (tmp_path / "valid.csv").rename(tmp_path / "Valid.CSV")
    manifest = read("chexpert", tmp_path, "Edema", "Fracture")
    assert sorted(s.split for s in manifest.samples) == ["train"] * 3 + ["val"] * 3


def test_an_image_in_two_tables_is_said_with_both(tmp_path: Path) -> None:
    chexpert(tmp_path)
    (tmp_path / "valid.csv").write_text(CHEXPERT)
    with pytest.raises(DataError, match=r"train.csv and .*valid.csv: names .*frontal.jpg 2 times"):
        read("chexpert", tmp_path, "Edema", "Fracture")


def test_tables_of_images_that_lie_elsewhere_are_refused(tmp_path: Path) -> None:
    chexpert(tmp_path)
    (tmp_path / FIRST).unlink()
    words = r"none of its 6 image\(s\) lies below .*, e.g. train/patient00001.*: correct data.root"
    with pytest.raises(DataError, match=words):
        read("chexpert", tmp_path, "Edema", "Fracture")


@pytest.mark.parametrize("cut", ["1.0,0.0,1.0\n", ",0.0,1.0\n", ",1.0\n"])
def test_a_table_that_was_cut_off_is_refused(tmp_path: Path, cut: str) -> None:
    chexpert(tmp_path, CHEXPERT.removesuffix(cut))
    assert CHEXPERT.endswith(cut)
    with pytest.raises(DataError, match=r"line 4: ends before .* for 9 column\(s\); .* whole"):
        read("chexpert", tmp_path, "Edema", "Fracture", "Support Devices")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CHEXPERT.replace("patient00001", "anna"), "names no patient; expected e.g. CheXpert"),
        (CHEXPERT.replace("Path,", "File,"), "has no column 'Path'"),
        (CHEXPERT.replace("68,Frontal,AP,1.0", "68,Frontal,AP,2.0"), "line 2: No Finding is '2.0'"),
        (CHEXPERT.replace("-1.0", "-2.0"), "line 3: Edema is '-2.0'"),
        (CHEXPERT.replace("CheXpert-v1.0-small/train/patient00001", "../../patient00001"), "leads"),
    ],
)
def test_another_chexpert_is_refused(tmp_path: Path, text: str, words: str) -> None:
    chexpert(tmp_path, text)
    with pytest.raises(DataError, match=words):
        read("chexpert", tmp_path, "Edema", "Fracture")


def test_a_folder_without_tables_is_no_chexpert(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has none of train.csv, valid.csv, test.csv"):
        read("chexpert", tmp_path, "Edema", "Fracture")


# --- NIH ChestX-ray14 ---

NIH = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
    "00000001_000.png,Cardiomegaly|Emphysema,0,1,57,M,PA,2682,2749,0.143,0.143,\n"
    "00000001_001.png,No Finding,1,1,58,M,PA,2894,2729,0.143,0.143,\n"
    "00000002_000.png,Hernia,0,2,80,M,PA,2500,2048,0.171,0.171,\n"
)
NIH_NAMES = ("Cardiomegaly", "Emphysema", "Effusion")


def nih(root: Path, text: str = NIH) -> None:
    (root / "Data_Entry_2017_v2020.csv").write_text(text, encoding="utf-8")


def test_nih(tmp_path: Path) -> None:
    nih(tmp_path)
    put(tmp_path, "images_001/images/00000001_000.png", "images/00000001_001.png")
    manifest = read("nih", tmp_path, *NIH_NAMES)
    assert found(manifest) == {
        "images/00000001_001.png": (0, 0, 0),
        "images/00000002_000.png": (0, 0, 0),
        "images_001/images/00000001_000.png": (1, 1, 0),
    }
    assert manifest.patients() == ("1", "2")
    assert "no image shows Effusion" in manifest.notes
    (tmp_path / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png\n")
    assert not any(s.split for s in read("nih", tmp_path, *NIH_NAMES).samples)
    (tmp_path / "test_list.txt").write_text("00000002_000.png\n")
    split = {s.path: s.split for s in read("nih", tmp_path, *NIH_NAMES).samples}
    assert list(split.values()) == ["train", "test", "train"]
    (tmp_path / "test_list.txt").write_text("00000001_001.png\n")
    with pytest.raises(DataError, match=r"00000001_001.png is in both lists"):
        read("nih", tmp_path, *NIH_NAMES)
    (tmp_path / "test_list.txt").write_text("00000009_001.png\n")
    with pytest.raises(DataError, match=r"line 4: 00000002_000.png is in none of train_val_list"):
        read("nih", tmp_path, *NIH_NAMES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (NIH.replace("|Emphysema", "|Emphysem"), r"line 2: Finding Labels is 'Cardiomegaly\|Emp"),
        (NIH.replace("No Finding", "No Finding|Mass"), "line 3: Finding Labels is"),
        (NIH.replace("Hernia", ""), "line 4: Finding Labels is ''"),
        (NIH.replace("00000002_000.png", "00000001_000.png"), "names images/00000001_000.png 2 t"),
        (NIH.replace("00000002_000.png", "../00000002_000.png"), "leads out of"),
        (NIH.replace("0,2,80", "0,,80"), "line 4: Patient ID is empty"),
        (NIH.replace("Finding Labels", "Labels"), "has no column 'Finding Labels'"),
    ],
)
def test_another_nih_is_refused(tmp_path: Path, text: str, words: str) -> None:
    nih(tmp_path, text)
    with pytest.raises(DataError, match=words):
        read("nih", tmp_path, *NIH_NAMES)


def test_nih_has_its_own_findings_and_one_table(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"names .Fracture.; expected findings of data.layout=nih"
    ):
        read("nih", tmp_path, "Mass", "Fracture")
    with pytest.raises(DataError, match="has 0 tables Data_Entry_2017"):
        read("nih", tmp_path, "Mass", "Hernia")


LISTS = {
    "train_val_list.txt": "00000001_000.png\n00000001_001.png\n",
    "test_list.txt": "00000002_000.png\n",
}


def test_lists_of_nih_may_begin_with_a_mark_and_the_table_be_compressed(tmp_path: Path) -> None:
    (tmp_path / "Data_Entry_2017.csv.gz").write_bytes(gzip.compress(NIH.encode()))
    put(tmp_path, "images/00000002_000.png")
    for name, text in LISTS.items():
        (tmp_path / name).write_text(f"\ufeff{text}", encoding="utf-8")
    splits = [s.split for s in read("nih", tmp_path, *NIH_NAMES).samples]
    assert splits == ["train", "train", "test"]


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_nih_without_the_other_is_said_and_an_empty_one_refused(
    tmp_path: Path, name: str
) -> None:
    nih(tmp_path)
    put(tmp_path, "images/00000002_000.png")
    (tmp_path / name).write_text(LISTS[name])
    alone = f"{name} is there without the other list: the official split is not taken"
    assert alone in read("nih", tmp_path, *NIH_NAMES).notes
    for other in LISTS:
        (tmp_path / other).write_text("\n" if other == name else LISTS[other])
    with pytest.raises(DataError, match=rf"{name}: names no image; expected one name a line"):
        read("nih", tmp_path, *NIH_NAMES)


def test_an_image_of_nih_in_two_folders_is_said(tmp_path: Path) -> None:
    nih(tmp_path)
    name = "00000002_000.png"
    put(tmp_path, f"images/{name}", f"images_001/images/{name}")
    manifest = read("nih", tmp_path, *NIH_NAMES)
    assert f"images/{name}" in found(manifest)
    assert (
        f"1 image(s) lie in two folders, e.g. images/{name} and images_001/images/{name}: the "
        "first is read"
    ) in manifest.notes


# --- PadChest ---

PADCHEST = """,ImageID,ImageDir,StudyID,PatientID,Labels
0,a.png,0,s1,p1,"['cardiomegaly', ' pleural effusion', '']"
1,b.png,3,s2,p2,"[""heart's enlargement"", 'Cardiomegaly']"
2,c.png,3,s3,p3,['normal']
3,d.png,3,s4,p4,['exclude']
4,e.png,3,s5,p5,
"""


def padchest(root: Path, text: str = PADCHEST) -> None:
    (root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv").write_text(text)


def test_padchest(tmp_path: Path) -> None:
    padchest(tmp_path)
    put(tmp_path, "3/b.png", "c.png")
    manifest = read("padchest", tmp_path, "cardiomegaly", "pleural effusion", "Heart's enlargement")
    assert found(manifest) == {"3/b.png": (1, 0, 1), "a.png": (1, 1, 0), "c.png": (0, 0, 0)}
    assert manifest.left_out == {"label exclude": 1, "no label": 1}


@pytest.mark.parametrize(
    "cell",
    [
        "cardiomegaly",
        "['a' 'b']",
        "__import__('os').system('true')",
        "['a', f('b')]",
        "['a'] + ['b']",
        r"""['a\x41']""",
        "[" * 4000,
        "['a'" + " " * 60_000 + "x]",
    ],
)
def test_a_cell_that_is_no_list_of_names_is_refused(tmp_path: Path, cell: str) -> None:
    quoted = '"' + cell.replace('"', '""') + '"'
    padchest(tmp_path, PADCHEST.replace("['normal']", quoted))
    with pytest.raises(DataError, match=r"line 4: Labels is .*expected a list of names"):
        read("padchest", tmp_path, "cardiomegaly", "pleural effusion")


def test_padchest_as_a_spreadsheet_saves_it_again(tmp_path: Path) -> None:
    padchest(tmp_path, PADCHEST.replace("b.png,3", "b.png,3.0").replace("s5,p5,", "s5,p5,NaN"))
    put(tmp_path, "3/b.png", "a.png")
    manifest = read("padchest", tmp_path, "cardiomegaly", "pleural effusion")
    assert "3/b.png" in found(manifest)
    assert manifest.left_out == {"label exclude": 1, "no label": 1}


def test_a_folder_that_no_system_could_hold_is_none_of_padchest(tmp_path: Path) -> None:
    padchest(tmp_path, PADCHEST.replace("b.png,3", f"b.png,{'3' * 5000}"))
    put(tmp_path, "a.png")
    assert "b.png" in found(read("padchest", tmp_path, "cardiomegaly", "pleural effusion"))


def test_padchest_without_any_list_is_refused_with_what_helps(tmp_path: Path) -> None:
    padchest(tmp_path, PADCHEST.partition("\n")[0] + "\n0,a.png,0,s1,p1,\n")
    with pytest.raises(DataError, match=r"none of its images has labels; expected a list of lab"):
        read("padchest", tmp_path, "cardiomegaly", "pleural effusion")


# --- MIMIC-CXR ---

STUDIES = """subject_id,study_id,Edema,Fracture,No Finding,Support Devices
10000032,50414267,,,1.0,
10000764,57375967,-1.0,1.0,,
"""
SPLIT = """dicom_id,study_id,subject_id,split
02aa804e-bde0afdd,50414267,10000032,train
174413ec-4ec4c1f7,50414267,10000032,train
096052b7-d256dc40,57375967,10000764,validate
8959e402-2175d68d,99999999,10000764,test
"""


def mimic(root: Path, studies: str = STUDIES, split: str = SPLIT) -> None:
    packed = gzip.compress(studies.encode())
    (root / "mimic-cxr-2.0.0-chexpert.csv.gz").write_bytes(packed)
    (root / "mimic-cxr-2.0.0-split.csv").write_text(split)


def test_mimic_cxr(tmp_path: Path) -> None:
    mimic(tmp_path)
    put(tmp_path, "files/p10/p10000764/s57375967/096052b7-d256dc40.png")
    manifest = read("mimic_cxr", tmp_path, "Edema", "Fracture")
    folder = "files/p10/p10000032/s50414267"
    assert found(manifest) == {
        f"{folder}/02aa804e-bde0afdd.jpg": (0, 0),
        f"{folder}/174413ec-4ec4c1f7.jpg": (0, 0),
        "files/p10/p10000764/s57375967/096052b7-d256dc40.png": (-1, 1),
    }
    assert [s.split for s in manifest.samples] == ["train", "train", "val"]
    assert manifest.patients() == ("10000032", "10000764")
    assert manifest.left_out == {"study without labels": 1}


@pytest.mark.parametrize(
    ("studies", "split", "words"),
    [
        (STUDIES + STUDIES.splitlines()[1] + "\n", SPLIT, "line 4: study 50414267 occurs twice"),
        (STUDIES.replace("10000764", "../../x"), SPLIT, "line 3: subject_id is '../../x'"),
        (STUDIES, SPLIT.replace("8959e402-2175d68d", "../a"), "line 5: dicom_id is '../a'"),
        (STUDIES, SPLIT.replace("validate", "valid"), "split 'valid'; expected"),
        (STUDIES, SPLIT.replace("174413ec-4ec4c1f7", "02aa804e-bde0afdd"), "2 times; expected"),
        (STUDIES.replace("Edema", "Oedema"), SPLIT, "has no column 'Edema'"),
    ],
)
def test_another_mimic_cxr_is_refused(tmp_path: Path, studies: str, split: str, words: str) -> None:
    mimic(tmp_path, studies, split)
    with pytest.raises(DataError, match=words):
        read("mimic_cxr", tmp_path, "Edema", "Fracture")


def test_another_table_of_labels_of_mimic_cxr_may_be_named(tmp_path: Path) -> None:
    mimic(tmp_path)
    put(tmp_path, "files/p10/p10000764/s57375967/096052b7-d256dc40.png")
    other = tmp_path / "mimic-cxr-2.0.0-negbio.csv"
    other.write_text(STUDIES.replace("57375967,-1.0,1.0", "57375967,1.0,0.0"))
    manifest = read("mimic_cxr", tmp_path, "Edema", "Fracture", manifest=str(other))
    assert list(found(manifest).values()) == [(0, 0), (0, 0), (1, 0)]
    with pytest.raises(DataError, match=r"nope.csv cannot be read"):
        read("mimic_cxr", tmp_path, "Edema", "Fracture", manifest=str(tmp_path / "nope.csv"))


def test_tables_of_two_releases_of_mimic_cxr_are_refused(tmp_path: Path) -> None:
    mimic(tmp_path, split=SPLIT.replace(",5", ",6"))
    words = r"split.csv with mimic-cxr-2.0.0-chexpert.csv.gz: none of its images has labels"
    with pytest.raises(DataError, match=words):
        read("mimic_cxr", tmp_path, "Edema", "Fracture")


def test_a_packed_table_that_is_none_is_refused(tmp_path: Path) -> None:
    mimic(tmp_path)
    (tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz").write_bytes(b"\x1f\x8b rubbish")
    with pytest.raises(DataError, match=r"chexpert.csv.gz cannot be read"):
        read("mimic_cxr", tmp_path, "Edema", "Fracture")
    (tmp_path / "mimic-cxr-2.0.0-split.csv").unlink()
    (tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz").unlink()
    with pytest.raises(DataError, match=r"has no mimic-cxr-2.0.0-chexpert.csv or .gz"):
        read("mimic_cxr", tmp_path, "Edema", "Fracture")


@pytest.mark.parametrize("layout", ["chexpert", "nih", "padchest", "mimic_cxr"])
def test_each_layout_is_a_choice_that_names_its_findings(layout: str) -> None:
    experiment = compose_experiment([f"data={layout}", "task=multilabel", "data.root=/images"])
    assert experiment.data.layout == layout
    assert len(experiment.data.classes) >= 10


# --- Synthetic ---


def test_drawn_findings_go_together_and_some_labels_are_unknown(tmp_path: Path) -> None:
    cfg = DataConfig(
        task="multilabel", cache_dir=str(tmp_path), synthetic=SyntheticConfig(patients=120),
        image_size=32,
    )  # fmt: skip
    manifest = read_manifest(cfg, seed=0)
    assert manifest.classes == FINDINGS
    assert manifest.synthetic
    labels = np.array(list(found(manifest).values()))
    assert 0.07 < (labels == -1).mean() < 0.13
    heart, effusion = labels[:, 0], labels[:, 2]
    both = (heart >= 0) & (effusion >= 0)
    # Drawn with a probability of 0.55 beside an enlarged heart, and of 0.2 without.
    with_heart, without = (effusion[both & (heart == k)].mean() for k in (1, 0))
    assert with_heart > without + 0.15
    site, test = load_site(cfg, seed=0, site_index=0, num_sites=3), load_test(cfg, seed=0)
    assert site.train.labels.dtype == test.labels.dtype
    assert test.labels.shape == (len(test), 5)
    by_path = found(manifest)
    assert [tuple(row) for row in test.labels.tolist()] == [by_path[f] for f in test.files]
    assert site.train.task is TASKS["multilabel"]
    chosen = DataConfig(**{**vars(cfg), "classes": ["nodule", "effusion"]})
    assert read_manifest(chosen, seed=0).classes == ("nodule", "effusion")
    with pytest.raises(ConfigError, match="names 'mass'; expected findings that are drawn"):
        read_manifest(DataConfig(**{**vars(cfg), "classes": ["nodule", "mass"]}), seed=0)


# --- What is said of the data ---


def test_a_check_counts_each_finding(tmp_path: Path) -> None:
    text = "path,edema,nodule,patient\na.png,1,1,P1\nb.png,,0,P1\nc.png,0,0,P2\n"
    put(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "t.csv").write_text(text)
    cfg = DataConfig(task="multilabel", layout="manifest", manifest=str(tmp_path / "t.csv"),
                     classes=["edema", "nodule"])  # fmt: skip
    checked = check_data(cfg, seed=1)
    assert checked.ok
    assert checked.classes == {
        "edema: present": {"images": 1, "patients": 1},
        "edema: absent": {"images": 1, "patients": 1},
        "edema: unknown": {"images": 1, "patients": 1},
        "nodule: present": {"images": 1, "patients": 1},
        "nodule: absent": {"images": 2, "patients": 2},
        "nodule: unknown": {"images": 0, "patients": 0},
    }
    # The three files are one picture: of what it shows they say different things.
    assert checked.contradicting_duplicates == [["a.png", "b.png", "c.png"]]
    (tmp_path / "t.csv").write_text(text.replace("a.png,1,1", "a.png,0,0"))
    assert "present on one image and absent on another" in check_data(cfg, seed=1).errors[0]
    with pytest.raises(DataError, match="none of edema, nodule is present on one image"):
        load_site(cfg, seed=0, site_index=0, num_sites=1)


def test_a_check_of_a_public_set_needs_no_word_of_the_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the record lies below the current folder
    root = tmp_path / "nih"
    root.mkdir()
    nih(root)
    for number, name in enumerate(("00000001_000", "00000001_001", "00000002_000")):
        put(root, f"images/{name}.png")
        Image.new("L", (8, 8), number * 50).save(root / f"images/{name}.png")
    words = ["data", "check", "data=nih", f"data.root={root}", "quiet=true"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert '"Hernia: present": {"images": 1, "patients": 1}' in told.out
    output = f"output_dir={tmp_path / 'copies'}"
    assert main(["data", "deidentify", *words[2:4], output]) == 0
    copies = (tmp_path / "copies/manifest.csv").read_text(encoding="utf-8").splitlines()
    assert sorted(line.split(",", 1)[1].rsplit(",", 3)[0] for line in copies[1:]) == [
        "0,0,0,0,0,0,0,0,0,0,0,0,0,0",  # No Finding
        "0,0,0,0,0,0,0,0,0,0,0,0,0,1",  # Hernia
        "0,1,0,0,0,0,0,0,0,0,1,0,0,0",  # Cardiomegaly, Emphysema
    ]


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    ("layout", "make"),
    [("chexpert", chexpert), ("nih", nih), ("padchest", padchest), ("mimic_cxr", mimic)],
)
def test_a_published_set_is_not_taken_for_class_folders(
    tmp_path: Path, layout: str, make: Any, deep: bool
) -> None:
    root = tmp_path / "set" if deep else tmp_path
    root.mkdir(exist_ok=True)
    make(root)
    words = f"looks like the set that data={layout} reads; expected its own layout"
    with pytest.raises(ConfigError, match=words):
        read("auto", tmp_path, task="classification")


def test_a_part_of_a_published_set_is_not_taken_for_class_folders(tmp_path: Path) -> None:
    put(tmp_path, "valid/patient64541/study1/view1_frontal.jpg")
    (tmp_path / "valid.csv").write_text(CHEXPERT)
    with pytest.raises(ConfigError, match="looks like the set that data=chexpert reads"):
        read("auto", tmp_path, task="classification")


def test_class_folders_beside_a_table_are_class_folders(tmp_path: Path) -> None:
    put(tmp_path, "train/ill/a.png", "train/well/b.png")
    (tmp_path / "train.csv").write_text("path,label")
    assert read("auto", tmp_path, task="classification").classes == ("ill", "well")
