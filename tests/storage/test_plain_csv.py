"""Tables of which no spreadsheet makes a formula, and the one door through which all of them go."""

from __future__ import annotations

import ast
import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from primia_flwr.attacks.membership import report as membership_report
from primia_flwr.cli.inference.predictions import write_tables
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.runs.history import History, RoundRow, SiteRow
from primia_flwr.storage import plain_csv
from primia_flwr.tables import NUMBER, TEXT, Sheet
from tests import class_predictions

ROOT = Path(__file__).parents[2]
DOOR = "primia_flwr/storage/plain_csv.py"
JOIN_FOR_A_SENTENCE = {  # or for a command line; looked at, and no cells of a table
    "benchmarks/primia_bench/models/federated.py": 1,
    "benchmarks/primia_bench/privacy/synthetic_images.py": 2,
    "benchmarks/primia_bench/review/measured.py": 2,
    "benchmarks/primia_bench/topologies/digits.py": 1,
    "benchmarks/primia_bench/topologies/sharing.py": 1,
    "benchmarks/primia_bench/rounds/small_runs.py": 1,
    "benchmarks/primia_bench/training/round_overhead.py": 1,
    "benchmarks/primia_bench/secagg/federation_rounds.py": 2,
    "primia_flwr/evaluation/predictions.py": 2,
}
EVIL = ['=HYPERLINK("http:x")', "=cmd.png", "+1.png", "@SUM(1).png", "-2+3.png", "\t=1", "\r=1"]


def written(*rows: Sequence[object], end: str = "\r\n") -> str:
    stream = io.StringIO(newline="")
    plain_csv.writer(stream, lineterminator=end).writerows(rows)
    return stream.getvalue()


def read(text: str) -> list[list[str]]:
    return list(plain_csv.reader(io.StringIO(text, newline="")))


def formulas(text: str) -> list[str]:
    """Every cell that a spreadsheet would compute, whatever it takes for the ends of cells."""
    cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    cells += [part for cell in cells for part in re.split("[;\t\r\n]", cell)]
    begins = re.compile("[\t\r]|\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20]")
    return [cell for cell in cells if begins.match(cell) and not is_number(cell)]


def is_number(cell: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", cell) is not None


@pytest.mark.parametrize(
    ("text", "guarded"),
    [
        *((text, "'" + text) for text in EVIL[:5]),
        ("\t=1", "'\t'=1"),
        ("\r=1", "'\r'=1"),
        ("\tabc", "'\tabc"),
        ("\r", "'\r"),
        (" =1", "' =1"),
        ("\ufeff=1", "'\ufeff=1"),
        ("\uff1d1", "'\uff1d1"),
        ("'=1", "''=1"),
        ("a;=1;-2.png", "a;'=1;'-2.png"),
        ("a\n=1", "a\n'=1"),
        ("a=1,-2.png", "a=1,-2.png"),
        ("'abc", "'abc"),
        ("2024-01-02 a@b", "2024-01-02 a@b"),
        ("", ""),
    ],
)
def test_where_a_formula_could_begin_by_hand(text: str, guarded: str) -> None:
    assert plain_csv.guarded(text) == guarded
    assert plain_csv.unguarded(guarded) == text


def test_numbers_stay_numbers_with_all_their_digits() -> None:
    row = [-1.5, -3, 1e-320, np.float64(-0.1), np.int64(-7), True, None, "-1.5"]
    assert written(row) == "-1.5,-3,1e-320,-0.1,-7,True,,'-1.5\r\n"


def test_what_another_separator_would_tear_apart_is_quoted() -> None:
    text = written(["a", 'x;"y', "b\rc", " d", "plain"], [""], end="\n")
    assert text == 'a,"x;""y","b\rc"," d",plain\n""\n'
    assert read(text) == [["a", 'x;"y', "b\rc", " d", "plain"], [""]]


def rows_of(letters: st.SearchStrategy[str]) -> st.SearchStrategy[list[list[str]]]:
    return st.lists(st.lists(st.text(letters), min_size=1), min_size=1)


ROWS = rows_of(st.characters(codec="utf-8", exclude_characters="\0"))
SPITEFUL = rows_of(st.sampled_from("'=+-@;\t\r\n\",a "))


@given(st.one_of(ROWS, SPITEFUL))
@example([EVIL])
def test_what_is_written_is_read_back_and_holds_no_formula(rows: list[list[str]]) -> None:
    text = written(*rows)
    assert read(text) == rows
    assert formulas(text) == []


def test_mappings_are_read_back_too() -> None:
    stream = io.StringIO(newline="")
    writer = plain_csv.DictWriter(stream, ["=a", "b"])
    writer.writeheader()
    writer.writerows([{"=a": "@x", "b": -1, "c": "left out"}, {"=a": "y"}])
    assert stream.getvalue() == "'=a,b\r\n'@x,-1\r\ny,\r\n"
    found = list(plain_csv.DictReader(io.StringIO(stream.getvalue(), newline="")))
    assert found == [{"=a": "@x", "b": "-1"}, {"=a": "y", "b": ""}]


def test_a_table_from_elsewhere_is_read_as_it_is() -> None:
    text = "path,label\n=1.png,'ill'\n+2.png,well\n"
    assert read(text) == [["path", "label"], ["=1.png", "'ill'"], ["+2.png", "well"]]


# Every table of the product, with names that spreadsheets would compute.


def predictions_of_infer(folder: Path) -> str:
    rows = [{"file": name, "prediction": "ill", "p_ill": 1.0} for name in EVIL]
    write_tables(folder / "out", rows, {})
    return (folder / "out" / "predictions.csv").read_bytes().decode()


def predictions_of_a_run(folder: Path) -> str:
    file, classes = folder / "predictions.csv", ("=ill", "-well;=1")
    chances = np.tile([0.25, 0.75], (len(EVIL), 1))
    class_predictions.write(file, EVIL, EVIL, [0] * len(EVIL), chances, classes)
    back = class_predictions.read(file)
    assert (back.files, back.patients, back.names) == (tuple(EVIL), tuple(EVIL), classes)
    assert back.outputs.tolist() == chances.tolist()
    return file.read_bytes().decode()


def manifest(folder: Path) -> str:
    samples = tuple(Sample(name, 0, name, name) for name in EVIL)
    Manifest(folder, ("=ill",), samples).write_csv(folder / "a.csv")
    return (folder / "a.csv").read_bytes().decode()


def history(folder: Path) -> str:
    found = History(folder, ["mcc"])
    found.rounds.append(RoundRow(1, validation={"mcc": -0.25}))
    found.sites += [SiteRow(1, name, "ok") for name in EVIL]
    found.write()
    text = (folder / "history.csv").read_text()
    assert "-0.25" in text.splitlines()[1].split(",")
    return text + (folder / "sites.csv").read_bytes().decode()


def comparison(folder: Path) -> str:
    columns = (("Reader", "=reader", TEXT), ("n", "n", NUMBER))
    sheet = Sheet("figures", "", columns, [(name, -1) for name in EVIL])
    assert "\n'+1.png,-1\n" in sheet.to_csv()
    return sheet.to_csv()


def membership(folder: Path) -> str:
    count = len(EVIL)
    images = SimpleNamespace(
        files=EVIL, patients=EVIL, classes=("=ill",), labels=np.zeros(count), synthetic=True
    )
    run = SimpleNamespace(experiment=Experiment(output_dir=str(folder)))
    attack = SimpleNamespace(asked=SimpleNamespace(images=images, member=np.ones(count)), run=run)
    found = SimpleNamespace(scores={"lira_offline": np.full(count, -1.5)})
    text = membership_report._scores(attack, found)  # type: ignore[arg-type]
    assert text.splitlines()[1].split(",")[-2] == "-1.5"
    return text


@pytest.mark.parametrize(
    "table",
    [predictions_of_infer, predictions_of_a_run, manifest, history, comparison, membership],
)
def test_no_table_holds_a_formula(tmp_path: Path, table: object) -> None:
    text = table(tmp_path)  # type: ignore[operator]
    assert "=cmd.png" in text or "'=ill" in text
    assert formulas(text) == []


# One door, found in the source.


def sources() -> Iterator[Path]:
    for package in ("primia_flwr", "clients", "strategies", "benchmarks"):
        yield from sorted((ROOT / package).rglob("*.py"))


def own_tables(text: str) -> list[str]:
    """What writes or reads CSV in a module other than through the door."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in ("csv", "_csv", "pandas")]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if node.module in ("csv", "_csv", "pandas") else []
        elif isinstance(node, ast.Attribute) and node.attr in ("savetxt", "write_excel"):
            found.append(node.attr)
        elif isinstance(node, ast.Call) and "csv" in map(_text, node.args[:1]):
            if "import" in _name(node.func):
                found.append("csv")
        elif isinstance(node, ast.Call) and _name(node.func) == "join" and len(node.args) == 1:
            assert isinstance(node.func, ast.Attribute)
            if _text(node.func.value) in (",", ";", "\t") and _writes(text):
                found.append("join")
    return found


def _text(node: ast.AST) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def _name(node: ast.AST) -> str:
    return str(getattr(node, "attr", getattr(node, "id", "")))


def _writes(text: str) -> bool:
    """Say whether a module names a table of its own and writes files."""
    return bool(re.search(r"\.(csv|tsv)\b", text) and re.search(r"\bwrite\w*\(|open\(", text))


def test_all_tables_go_through_one_door() -> None:
    other = {
        str(path.relative_to(ROOT)): found
        for path in sources()
        if (found := own_tables(path.read_text(encoding="utf-8")))
    }
    assert other.pop(DOOR) == ["csv"]
    assert other == {name: ["join"] * count for name, count in JOIN_FOR_A_SENTENCE.items()}


@pytest.mark.parametrize(
    "text",
    [
        "import csv",
        "import os, csv as table",
        "from csv import writer",
        "import pandas",
        "__import__('csv')",
        "importlib.import_module('csv')",
        "np.savetxt(f, x)",
        "open('a.csv', 'w').write(','.join(row))",
    ],
)
def test_the_search_for_other_doors_finds_them(text: str) -> None:
    assert own_tables(text)
