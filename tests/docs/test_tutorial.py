"""The tutorial is executed as a reader would: a real kernel, an empty folder.

Its federation is one in memory by default and a real one, as a reader's, in the slow run.
"""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
PATH = ROOT / "docs" / "tutorial.ipynb"
IN_MEMORY = """
from tests.e2e.in_memory import without_processes
kept_open = without_processes()
kept_open.__enter__()
"""


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(PATH, as_version=4)


def test_no_output_is_kept_in_the_file(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 5
    assert [cell for cell in code if cell.outputs or cell.execution_count] == []


@pytest.mark.system
@pytest.mark.parametrize(
    "before",
    [
        pytest.param(IN_MEMORY, id="in_memory"),
        pytest.param("", id="simulation", marks=pytest.mark.slow),
    ],
)
def test_every_cell_runs_and_the_last_ones_say_what_the_text_says(
    notebook: nbformat.NotebookNode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
) -> None:
    if before:
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        notebook.cells.insert(0, nbformat.v4.new_code_cell(before))
    programs = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources=where).execute()
    printed = {cell.source: text_of(cell) for cell in notebook.cells if cell.cell_type == "code"}
    figures = ast.literal_eval(printed["run.figures"])
    assert set(figures) >= {"mcc", "accuracy", "roc_auc"}
    said = "\n".join(printed.values())
    assert "Total: rounds 2, sums learned 4" in said
    assert "may include some that the model was trained on" in said
    assert "No reader is shown to be right more often than another" in said
    assert said.rstrip().endswith("(did you mean resnet18?)")
    assert (tmp_path / "run" / "report.html").is_file()
    assert "Warning" not in said


def text_of(cell: nbformat.NotebookNode) -> str:
    parts = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in cell.outputs]
    return "\n".join(parts)
