from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.layouts.pneumonia import parse_name
from primia_flwr.data.manifest import Manifest
from primia_flwr.data.reading.any_layout import in_split, read_manifest
from primia_flwr.errors import ConfigError, DataError

WriteImage = Callable[..., Path]


def read(root: Path, layout: str = "auto", **changes: object) -> Manifest:
    return read_manifest(DataConfig(layout=layout, root=str(root), **changes), seed=1)


def as_rows(manifest: Manifest) -> list[tuple[str, str, str, str]]:
    return [(s.path, manifest.classes[s.label], s.patient, s.split) for s in manifest.samples]


def test_class_folders_with_patient_folders(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "b" / "p1" / "x.png")
    write_image(tmp_path / "a" / "y.jpeg")
    write_image(tmp_path / "c" / "z.tif")
    manifest = read(tmp_path)
    assert as_rows(manifest) == [
        ("a/y.jpeg", "a", "image:a/y.jpeg", ""),
        ("b/p1/x.png", "b", "p1", ""),
        ("c/z.tif", "c", "image:c/z.tif", ""),
    ]
    assert manifest.label_counts().tolist() == [1, 1, 1]


def test_split_folders_leave_other_folders_alone(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "train" / "a" / "p" / "1.png")
    write_image(tmp_path / "validation" / "b" / "2.png")
    write_image(tmp_path / "Test" / "a" / "3.png")
    write_image(tmp_path / "copy" / "a" / "4.png")
    manifest = read(tmp_path)
    assert {(s.path, s.split) for s in manifest.samples} == {
        ("train/a/p/1.png", "train"),
        ("validation/b/2.png", "val"),
        ("Test/a/3.png", "test"),
    }
    assert manifest.samples[-1].patient != "p"
    assert len(in_split(manifest, "test")) == 1
    assert len(in_split(manifest, "all")) == 3


def test_by_catch_is_passed_over_and_bad_images_are_not(
    tmp_path: Path, write_image: WriteImage
) -> None:
    for name in ("a/1.png", "b/2.png", "a/.hidden.png", "a/__MACOSX/1.png"):
        write_image(tmp_path / name)
    (tmp_path / "a" / "readme.txt").write_text("x")
    (tmp_path / "b" / "broken.png").write_text("x")
    write_image(tmp_path / "a" / "x.png").rename(tmp_path / "a" / "nosuffix")
    paths = [s.path for s in read(tmp_path).samples]
    assert paths == ["a/1.png", "a/nosuffix", "b/2.png", "b/broken.png"]


def test_patient_pattern(tmp_path: Path, write_image: WriteImage) -> None:
    for name in ("a/P1_1.png", "a/P1_2.png", "b/P2_1.png"):
        write_image(tmp_path / name)
    assert read(tmp_path, patient_pattern=r"/(?P<patient>P\d+)_").patients() == ("P1", "P2")
    with pytest.raises(DataError, match=r"a/P1_1.png.*does not match"):
        read(tmp_path, patient_pattern=r"(?P<patient>Q\d)")
    for pattern in ("(", "(.*)"):
        with pytest.raises(ConfigError, match=r"data.patient_pattern"):
            read(tmp_path, patient_pattern=pattern)


def test_classes_fix_the_order_and_may_be_absent(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "ill" / "1.png")
    manifest = read(tmp_path, classes=["well", "ill"])
    assert manifest.classes == ("well", "ill")
    assert manifest.label_counts().tolist() == [0, 1]
    with pytest.raises(DataError, match=r"class 'ill' is not in data.classes"):
        read(tmp_path, classes=["well", "sick"])


def test_numbered_classes_are_sorted_by_value(tmp_path: Path, write_image: WriteImage) -> None:
    for name in ("10", "9", "1"):
        write_image(tmp_path / name / "1.png")
    assert read(tmp_path).classes == ("1", "9", "10")
    for name in ("10.0", "9.0", "-1.0"):
        write_image(tmp_path / "floats" / name / "1.png")
    assert read(tmp_path / "floats").classes == ("-1.0", "9.0", "10.0")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("IM-0115-0001.jpeg", ("normal", "IM-0115")),
        ("NORMAL2-IM-0587-0001-0002.jpeg", ("normal", "NORMAL2-IM-0587")),
        ("person1372_bacteria_3501.jpeg", ("bacterial", "person1372-bacteria")),
        ("person1372_virus_12.jpeg", ("viral", "person1372-virus")),
    ],
)
def test_pneumonia_names(name: str, expected: tuple[str, str]) -> None:
    assert parse_name(name) == expected


def pneumonia_files(root: Path, write_image: WriteImage) -> None:
    write_image(root / "NORMAL" / "IM-0001-0001.jpeg")
    write_image(root / "PNEUMONIA" / "person1_bacteria_1.jpeg")
    write_image(root / "PNEUMONIA" / "person1_virus_2.jpeg")


def test_pneumonia_from_the_folder_above_or_the_split_itself(
    tmp_path: Path, write_image: WriteImage
) -> None:
    pneumonia_files(tmp_path / "train", write_image)
    write_image(tmp_path / "chest_xray" / "NORMAL" / "IM-0001-0001.jpeg")
    for layout in ("auto", "pneumonia"):
        above = read(tmp_path, layout)
        inside = read(tmp_path / "train", layout)
        assert above.classes == inside.classes == ("bacterial", "normal", "viral")
        assert [s.patient for s in above.samples] == [s.patient for s in inside.samples]
        assert {s.split for s in above.samples} == {"train"}
        assert above.label_counts().tolist() == [1, 1, 1]


def test_pneumonia_refuses_names_and_folders_that_contradict(
    tmp_path: Path, write_image: WriteImage
) -> None:
    pneumonia_files(tmp_path, write_image)
    wrong = write_image(tmp_path / "NORMAL" / "person9_virus_1.jpeg")
    with pytest.raises(DataError, match=r"person9_virus_1.jpeg.*below PNEUMONIA/"):
        read(tmp_path, "pneumonia")
    wrong.rename(tmp_path / "NORMAL" / "other.jpeg")
    with pytest.raises(DataError, match=r"other.jpeg: not a name of the pneumonia layout"):
        read(tmp_path, "pneumonia")


def table(folder: Path, text: str, **changes: object) -> Manifest:
    (folder / "m.csv").write_text(text, encoding="utf-8")
    cfg = DataConfig(layout="manifest", manifest=str(folder / "m.csv"), **changes)
    return read_manifest(cfg, seed=1)


def test_manifest_round_trip(tmp_path: Path) -> None:
    first = table(tmp_path, "\ufeffpath,label,patient,site\nb.png,ill,p1,x\na.png,well,,y\n")
    assert [(s.path, s.label, s.patient, s.site) for s in first.samples] == [
        ("a.png", 1, "image:a.png", "y"),
        ("b.png", 0, "p1", "x"),
    ]
    first.write_csv(tmp_path / "m.csv")
    again = read_manifest(DataConfig(layout="auto", manifest=str(tmp_path / "m.csv")), seed=1)
    assert again == first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na,b\n", "expected path,label"),
        ("path/label\na/b\n", "expected path,label"),
        ("path,LABEL,Label\na,b,3\n", "2 columns are called 'label'"),
        ("path,label\n", "has no rows"),
        ("path,label\na.png,\n", "line 2: label is ''"),
        ("path,label\na.png,x,y\n", "line 2"),
        ("path,label\na.png,x\na.png,y\n", "names a.png twice"),
        ("path,label\n../a.png,x\nb.png,y\n", "leads out of"),
        ("path,label\n/etc/passwd,x\nb.png,y\n", "leads out of"),
        ("path,label,split\na.png,x,later\nb.png,y,\n", "csv: 'a.png' has the split 'later'"),
        ("path,label\na.png,x\n", "expected at least two"),
    ],
)
def test_manifest_mistakes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table(tmp_path, text)


def test_manifest_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe\x00path")
    cfg = DataConfig(layout="manifest", manifest=str(tmp_path / "m.csv"))
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(cfg, seed=1)
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(replace(cfg, manifest=str(tmp_path / "no.csv")), seed=1)


def test_missing_empty_and_one_class_folders(tmp_path: Path, write_image: WriteImage) -> None:
    with pytest.raises(DataError, match=r"data.root=.*nowhere; expected an existing folder"):
        read(tmp_path / "nowhere")
    for layout in ("auto", "folder", "pneumonia"):
        with pytest.raises(DataError, match="found no images"):
            read(tmp_path, layout)
    write_image(tmp_path / "only" / "1.png")
    with pytest.raises(DataError, match="expected at least two"):
        read(tmp_path)
    for layout in ("auto", "folder", "manifest"):
        with pytest.raises(ConfigError, match="is empty"):
            read_manifest(DataConfig(layout=layout), seed=1)


def test_a_split_that_is_not_there(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "train" / "a" / "1.png")
    write_image(tmp_path / "train" / "b" / "2.png")
    with pytest.raises(DataError, match=r"data.split=test.*found the splits \['train'\]"):
        in_split(read(tmp_path), "test")


def test_the_patients_column_of_a_table_may_have_another_name(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("path,label,pat_id\na.png,ill, p1\nb.png,well,p1 \nc.png,ill,\n")
    cfg = DataConfig(layout="manifest", manifest=str(table), patient_column="pat_id")
    samples = read_manifest(cfg, seed=0).samples
    assert [sample.patient for sample in samples] == ["p1", "p1", "image:c.png"]


def test_a_patients_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("path,label,patient\na.png,ill,p1\nb.png,well,p1\n")
    cfg = DataConfig(layout="manifest", manifest=str(table), patient_column="pat_id")
    with pytest.raises(DataError, match=r"expected a column 'pat_id', which data\.patient_column"):
        read_manifest(cfg, seed=0)


@pytest.mark.parametrize("name", ["", "path", "label", "x" * 101])
def test_a_patients_column_of_another_meaning_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.patient_column="):
        DataConfig(patient_column=name)
