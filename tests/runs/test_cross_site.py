from __future__ import annotations

import json
from pathlib import Path

import pytest

from primia_flwr.errors import DataError
from primia_flwr.runs.cross_site import Cell, CrossSite, ModelRow, read_matrix, write_matrix

# 20 images, 6 + 9 right; MCC of 2 x 2 by hand: (6*9 - 4*1) / sqrt(10*10*7*13).
COUNTS = [[6, 4], [1, 9]]


def matrix() -> CrossSite:
    cell = Cell(20, 0.5, COUNTS)
    own = ModelRow("munich", 4, {"munich": cell, "paris": Cell(1, 2.0, [[0, 1], [0, 0]])})
    return CrossSite(("munich", "paris"), (ModelRow("Federated", 3, {"munich": cell}), own))


def test_figures_follow_from_the_counts() -> None:
    cell = Cell(20, 0.5, COUNTS)
    assert cell.accuracy == 0.75
    assert cell.mcc == pytest.approx(50 / (10 * 7 * 13 * 10) ** 0.5)
    assert Cell(1, 2.0, [[0, 1], [0, 0]]).mcc == 0


def test_read_back_as_written(tmp_path: Path) -> None:
    assert read_matrix(tmp_path) is None
    write_matrix(tmp_path, matrix())
    assert read_matrix(tmp_path) == matrix()
    assert [p.name for p in tmp_path.iterdir()] == ["cross_site.json"]
    values = json.loads((tmp_path / "cross_site.json").read_text())
    assert values["rows"][0]["cells"]["munich"]["accuracy"] == 0.75


@pytest.mark.parametrize(
    "change", ['"n": 21', '"n": "x"', '"confusion": [[6, 4]]', '"confusion": 3', '"loss": "x"']
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, change: str) -> None:
    cell = {**Cell(20, 0.5, COUNTS).to_dict(), **json.loads(f"{{{change}}}")}
    rows = [{"model": "a", "round": 1, "cells": {"a": cell}}]
    (tmp_path / "cross_site.json").write_text(json.dumps({"sites": ["a"], "rows": rows}))
    with pytest.raises(DataError, match=r"cross_site\.json cannot be read"):
        read_matrix(tmp_path)
