"""`cross_site.json`: how well each site's own model does on every site's validation images.

It holds counts and what follows from them. A model's row may lack sites, because a site was away
or has no validation images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primia_flwr.config.rows import TASKS
from primia_flwr.errors import DataError
from primia_flwr.storage.atomic import write_result
from primia_flwr.storage.reading import parse_json, read_text, reading
from primia_flwr.tasks.task import LOSS, Evaluation, Task

FILE = "cross_site.json"
FEDERATED = "Federated"


@dataclass(frozen=True)
class Cell:
    """One model at one site: what it was measured to be on at least one validation image."""

    found: Evaluation

    def figure(self, name: str) -> float:
        """Return one metric of the task."""
        return self.found.figures()[name]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, the figures that follow from the counts included."""
        counts = {name: count.tolist() for name, count in self.found.counts.items()}
        return {"n": self.found.num_examples, "counts": counts, **self.found.figures()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], task: Task, outputs: int) -> Cell:
        """Read what `to_dict` wrote; the counts decide, not the figures beside them."""
        examples = int(values["n"])
        if examples < 1:
            raise ValueError(f"n={examples}; expected at least one image")
        loss = float(values[LOSS]) * examples
        return cls(Evaluation.of(task, outputs, loss, examples, values["counts"]))


@dataclass(frozen=True)
class ModelRow:
    """One model: a site's name or `FEDERATED`, the round it is of, and its cells by site."""

    model: str
    round: int
    cells: dict[str, Cell]


@dataclass(frozen=True)
class CrossSite:
    """The matrix: its columns' `sites`, its `rows` with the federated model first.

    `task`: its name; `outputs`: the width of the models' last layer.
    """

    sites: tuple[str, ...]
    rows: tuple[ModelRow, ...]
    task: str
    outputs: int


def write_matrix(run_dir: Path, matrix: CrossSite) -> None:
    """Write cross_site.json, whole or not at all.

    Raises
    ------
    DataError
        If the folder cannot be written.
    """
    content = {
        "task": matrix.task,
        "outputs": matrix.outputs,
        "sites": list(matrix.sites),
        "rows": [
            {**vars(row), "cells": {site: cell.to_dict() for site, cell in row.cells.items()}}
            for row in matrix.rows
        ],
    }
    write_result(run_dir / FILE, content)


def _row(row: Mapping[str, Any], task: Task, outputs: int) -> ModelRow:
    cells = {str(s): Cell.from_dict(cell, task, outputs) for s, cell in row["cells"].items()}
    return ModelRow(str(row["model"]), int(row["round"]), cells)


def read_matrix(run_dir: Path) -> CrossSite | None:
    """Read what `write_matrix` wrote; None where there is no such file.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    path = run_dir / FILE
    if not path.is_file():
        return None
    expected = "the file as the run wrote it; delete it, or train with debug.cross_site=true"
    with reading(path, error=DataError, expected=expected):
        values = parse_json(read_text(path), finite=False)
        name, outputs = str(values["task"]), int(values["outputs"])
        if name not in TASKS:
            raise ValueError(f"task={name!r:.40}")
        rows = tuple(_row(row, TASKS[name], outputs) for row in values["rows"])
        return CrossSite(tuple(map(str, values["sites"])), rows, name, outputs)
