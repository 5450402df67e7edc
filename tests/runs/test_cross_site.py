from __future__ import annotations

import json
from pathlib import Path

import pytest

from primia_flwr.errors import DataError
from primia_flwr.runs.cross_site import CrossSite, ModelRow, read_matrix, write_matrix
from tests.reporting.run_folder_maker import cell

# 20 images, 6 + 9 right; MCC of 2 x 2 by hand: (6*9 - 4*1) / sqrt(10*10*7*13).
COUNTS = [[6, 4], [1, 9]]


def matrix() -> CrossSite:
    found = cell(COUNTS)
    own = ModelRow("munich", 4, {"munich": found, "paris": cell([[0, 1], [0, 0]])})
    rows = (ModelRow("Federated", 3, {"munich": found}), own)
    return CrossSite(("munich", "paris"), rows, "classification", 2)


def test_figures_follow_from_the_counts() -> None:
    found = cell(COUNTS)
    assert found.figure("accuracy") == 0.75
    assert found.figure("mcc") == pytest.approx(50 / (10 * 7 * 13 * 10) ** 0.5)
    assert cell([[0, 1], [0, 0]]).figure("mcc") == 0


def test_read_back_as_written(tmp_path: Path) -> None:
    assert read_matrix(tmp_path) is None
    write_matrix(tmp_path, matrix())
    read = read_matrix(tmp_path)
    assert read is not None
    assert (read.sites, read.task, read.outputs) == (("munich", "paris"), "classification", 2)
    assert [(row.model, row.round) for row in read.rows] == [("Federated", 3), ("munich", 4)]
    assert read.rows[1].cells["munich"].to_dict() == cell(COUNTS).to_dict()
    assert [p.name for p in tmp_path.iterdir()] == ["cross_site.json"]
    values = json.loads((tmp_path / "cross_site.json").read_text())
    assert values["rows"][0]["cells"]["munich"]["accuracy"] == 0.75


@pytest.mark.parametrize(
    "change",
    [
        {"n": 21}, {"n": 0}, {"n": "x"}, {"counts": {}}, {"counts": 3}, {"loss": "x"},
        {"counts": {"confusion": [6, 4]}}, {"counts": {"confusion": [-6, 16, 1, 9]}},
    ],
)  # fmt: skip
def test_a_file_that_contradicts_itself_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    rows = [{"model": "a", "round": 1, "cells": {"a": cell(COUNTS).to_dict() | change}}]
    content = {"sites": ["a"], "task": "classification", "outputs": 2, "rows": rows}
    (tmp_path / "cross_site.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"cross_site\.json cannot be read"):
        read_matrix(tmp_path)


@pytest.mark.parametrize("task", ["parity", 3, "../judge"])
def test_a_task_that_is_none_is_refused(tmp_path: Path, task: object) -> None:
    content = {"sites": [], "task": task, "outputs": 2, "rows": []}
    (tmp_path / "cross_site.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"cross_site\.json cannot be read \(task="):
        read_matrix(tmp_path)
