"""Tables as other programs write them."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from primia_flwr.config.experiment.data import DataConfig, SelectConfig
from primia_flwr.config.load import compose_experiment
from primia_flwr.data.check import check_data
from primia_flwr.data.manifest import Manifest
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.errors import ConfigError, DataError
from tests.data.folder_maker import put

PLAIN = "path,label,patient\na.png,ill,P1\nb.png,well,P2\n"
ROWS = [("a.png", "ill", "P1"), ("b.png", "well", "P2")]


def read(folder: Path, content: str | bytes, **changes: Any) -> Manifest:
    file = folder / "t.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_manifest(DataConfig(layout="manifest", manifest=str(file), **changes), seed=1)


def rows(manifest: Manifest) -> list[tuple[str, str, str]]:
    return [(s.path, manifest.classes[s.label], s.patient) for s in manifest.samples]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (PLAIN, ()),
        (PLAIN.replace(",", ";"), ("the table is separated by semicolons",)),
        (PLAIN.replace(",", "\t"), ("the table is separated by tabs",)),
        (PLAIN.replace(",", "|"), ("the table is separated by bars",)),
        ("sep=;\n" + PLAIN.replace(",", ";"), ("the table is separated by semicolons",)),
        ('"sep=;"\r\n' + PLAIN.replace(",", ";"), ("the table is separated by semicolons",)),
        (PLAIN.encode("utf-8-sig"), ()),
        (PLAIN.encode("utf-16"), ()),
        (PLAIN.encode("utf-16-le"), ()),
        (PLAIN.encode("utf-16-be"), ()),
        (b"\xfe\xff" + PLAIN.encode("utf-16-be"), ()),
        (PLAIN.replace("\n", "\r\n"), ()),
        (PLAIN.replace("\n", "\r"), ()),
        (PLAIN.replace("path,label,patient", " Path ,LABEL, Patient"), ()),
        (PLAIN.replace("path,label,patient", '"path","label","patient"'), ()),
        (PLAIN.replace("\na", "\n\n\na") + "\n,,\n", ()),
        (PLAIN.replace("\n", ",\n"), ()),
    ],
)
def test_usual_forms_of_a_table_are_read(
    tmp_path: Path, content: str | bytes, said: tuple[str, ...]
) -> None:
    found = read(tmp_path, content)
    assert rows(found) == ROWS
    assert found.notes == said


def test_further_columns_are_ignored_and_said(tmp_path: Path) -> None:
    text = "age,path,Follow-up #,label,patient\n63,a.png,0,ill,P1\n,b.png,1,well,P2\n"
    found = read(tmp_path, text)
    assert rows(found) == ROWS
    assert found.notes == ("columns that are ignored: age, Follow-up #",)


def test_columns_have_the_names_that_are_given(tmp_path: Path) -> None:
    text = "Image Index;Finding;Patient ID;Hospital;Set\na.png;ill;P1;ulm;TRAIN\n"
    text += "b.png;well;P2;bonn;Test\n"
    columns = {
        "path": "Image Index",
        "label": "finding",
        "patient": "Patient  ID",
        "site": "Hospital",
        "split": "Set",
    }
    found = read(tmp_path, text, columns=columns)
    assert rows(found) == ROWS
    assert [(s.site, s.split) for s in found.samples] == [("ulm", "train"), ("bonn", "test")]
    with pytest.raises(DataError, match=r"a column 'Image Index', which data\.columns names"):
        read(tmp_path, PLAIN, columns=columns)


def test_columns_are_named_on_the_command_line(tmp_path: Path) -> None:
    said = "data.columns={path: Image Index, label: Finding, patient: Patient ID}"
    data = compose_experiment(["data=manifest", said]).data
    assert data.columns == {"path": "Image Index", "label": "Finding", "patient": "Patient ID"}
    assert compose_experiment(["data=manifest"]).data.columns == {}
    assert compose_experiment(["data.columns.label=Finding"]).data.columns == {"label": "Finding"}


def test_what_is_selected_is_said_on_the_command_line() -> None:
    said = ["data.select.modality=[DX,CR]", "data.select.intent=[FOR PRESENTATION]"]
    select = compose_experiment([*said, "data.select.burned_in=drop"]).data.select
    assert select == SelectConfig(["DX", "CR"], [], ["FOR PRESENTATION"], "drop")
    with pytest.raises(ConfigError, match=r"data\.select\.burned_in=maybe"):
        compose_experiment(["data.select.burned_in=maybe"])
    with pytest.raises(ConfigError, match=r"data\.uncertain=x"):
        compose_experiment(["data.uncertain=x"])


def test_the_name_as_it_stands_comes_before_another_case(tmp_path: Path) -> None:
    found = read(tmp_path, "path,label,Label,patient\na.png,ill,x,P1\nb.png,well,y,P2\n")
    assert rows(found) == ROWS
    assert found.notes == ("columns that are ignored: Label",)


@pytest.mark.parametrize(
    "columns", [{"file": "a"}, {"path": "a", "label": "a"}, {"path": "x" * 101}]
)
def test_columns_that_are_none_are_refused(columns: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"data\.columns"):
        DataConfig(columns=columns)


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("scans\\ill\\a.png", "scans/ill/a.png"),
        ("scans/ill/a.png", "scans/ill/a.png"),
        ("./scans//ill/a.png", "scans/ill/a.png"),
        ("{root}/scans/ill/a.png", "scans/ill/a.png"),
    ],
)
def test_paths_of_another_system_are_found(tmp_path: Path, written: str, read_as: str) -> None:
    put(tmp_path / "scans" / "ill" / "a.png", 1)
    text = f"path,label\n{written.format(root=tmp_path)},ill\nb.png,well\n"
    assert [s.path for s in read(tmp_path, text).samples] == ["b.png", read_as]


def test_a_name_with_a_backslash_is_itself(tmp_path: Path) -> None:
    put(tmp_path / "a\\b.png", 1)
    text = "path,label\na\\b.png,ill\nb.png,well\n"
    assert [s.path for s in read(tmp_path, text).samples] == ["a\\b.png", "b.png"]


def test_a_path_in_another_unicode_form_is_found(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(f, "\u00e9.png") for f in ("NFC", "NFD"))
    put(tmp_path / decomposed, 1)
    text = f"path,label\n{composed},ill\nb.png,well\n"
    assert decomposed in [s.path for s in read(tmp_path, text).samples]


@pytest.mark.parametrize(
    "path", ["C:\\scans\\a.png", "\\\\server\\scans\\a.png", "..\\a.png", "/etc/passwd", "../a.png"]
)
def test_paths_that_lead_elsewhere_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError, match="leads out of"):
        read(tmp_path, f"path,label\n{path},ill\nb.png,well\n")


@pytest.mark.parametrize("column", ["path", "label"])
def test_a_nul_is_one_sentence(tmp_path: Path, column: str) -> None:
    row = "a\0.png,ill" if column == "path" else "a.png,i\0ll"
    file = tmp_path / "t.csv"
    file.write_text(f"path,label\n{row}\nb.png,well\n")
    cfg = DataConfig(layout="manifest", manifest=str(file), root=str(tmp_path))
    (error,) = check_data(cfg, seed=1).errors
    assert f"line 2: {column} is " in error
    assert "without hidden characters" in error


@pytest.mark.parametrize(
    "content", [b"path,label\ncaf\xe9.png,x\n", b"PK\x03\x04\x14\0\x06\0\xff\xff"]
)
def test_what_is_no_text_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"cannot be read .*expected a table: save it as CSV"):
        read(tmp_path, content)


def test_sites_that_differ_in_case_only_are_said(tmp_path: Path) -> None:
    found = read(tmp_path, "path,label,patient,site\na.png,ill,P1,Ulm\nb.png,well,P2,ulm \n")
    assert found.notes == ("sites that differ in case, white space or form only: ['Ulm', 'ulm']",)


def test_labels_that_are_missing_are_asked_about(tmp_path: Path) -> None:
    found = read(tmp_path, PLAIN.replace("ill", "nan"))
    assert found.notes == ("class 'nan': is that a label that is missing?",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (  # rows 2 and 3 would have been one
            'path,label,note\na.png,ill,"5 cm\nb.png,well,-\nb.png,well,thin"\n',
            "before line 4 a quote holds several lines together",
        ),
        (
            'path,label,note\na.png,ill,"5 cm\nb.png,well,-\n',
            "line 2 has a quote that is not",
        ),
        ('path,label\na.png,"ill" now\nb.png,well\n', "line 2 has a quote"),
        (f"path,label,note\na.png,ill,{'x' * 140_000}\nb.png,well,-\n", "more than 131,072 char"),
        ("PK\x03\x04\x14\0\x06\0", "it is a workbook of a spreadsheet"),
    ],
)
def test_no_row_is_lost_in_a_cell(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        read(tmp_path, text)
    assert "expected a table: save it as CSV in UTF-8" in str(caught.value)
    assert "t.csv" in str(caught.value)


def test_a_cell_of_several_lines_and_rows_of_white_space_alone(tmp_path: Path) -> None:
    text = 'path,label,note\na.png,ill,"5 cm,\nleft"\n , ,\nb.png,well,\n,,\n'
    assert [s.path for s in read(tmp_path, text).samples] == ["a.png", "b.png"]


def test_a_setting_of_uncertain_labels_that_does_nothing_is_said(tmp_path: Path) -> None:
    text = "path,label\na.png,-1\nb.png,1\n"
    (note,) = read(tmp_path, text, uncertain="negative").notes
    assert note.startswith("the label '-1' is a class: data.uncertain=negative is of a label -1")
    assert read(tmp_path, text).notes == ()
