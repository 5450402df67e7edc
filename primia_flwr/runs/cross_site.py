"""`cross_site.json`: how well each site's own model does on every site's validation images.

It holds counts and what follows from them. A model's row may lack sites, because a site was away
or has no validation images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from primia_flwr.errors import DataError
from primia_flwr.storage.atomic import write_result
from primia_flwr.storage.reading import parse_json, read_text, reading

FILE = "cross_site.json"
FEDERATED = "Federated"


@dataclass(frozen=True)
class Cell:
    """One model at one site: `n` ≥ 1 validation images, mean cross-entropy `loss` in nats.

    `confusion[i][j]` counts images of class i that were predicted as class j.
    """

    n: int
    loss: float
    confusion: list[list[int]]

    @property
    def accuracy(self) -> float:
        """Share of the images predicted right."""
        return float(np.trace(np.array(self.confusion)) / self.n)

    @property
    def mcc(self) -> float:
        """Matthews correlation coefficient in [-1, 1]; 0 if all images or predictions are alike.

        Source: Gorodkin 2004, eq. 8.
        """
        counts = np.array(self.confusion, np.float64)
        true, called, n = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
        spread = (n**2 - true @ true) * (n**2 - called @ called)
        covariance = np.trace(counts) * n - true @ called
        return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, the figures that follow from the counts included."""
        figures = {"mcc": self.mcc, "accuracy": self.accuracy}
        return {"n": self.n, "loss": self.loss, "confusion": self.confusion, **figures}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Cell:
        """Read what `to_dict` wrote; the counts decide, not the figures beside them."""
        confusion = [[int(count) for count in row] for row in values["confusion"]]
        counted = sum(map(sum, confusion))
        if (
            counted != values["n"]
            or counted < 1
            or any(len(r) != len(confusion) for r in confusion)
        ):
            raise ValueError(f"confusion counts {counted} images, n={values['n']}")
        return cls(counted, float(values["loss"]), confusion)


@dataclass(frozen=True)
class ModelRow:
    """One model: a site's name or `FEDERATED`, the round it is of, and its cells by site."""

    model: str
    round: int
    cells: dict[str, Cell]


@dataclass(frozen=True)
class CrossSite:
    """The matrix: its columns' `sites`, its `rows` with the federated model first."""

    sites: tuple[str, ...]
    rows: tuple[ModelRow, ...]


def write_matrix(run_dir: Path, matrix: CrossSite) -> None:
    """Write cross_site.json, whole or not at all.

    Raises
    ------
    DataError
        If the folder cannot be written.
    """
    content = {
        "sites": list(matrix.sites),
        "rows": [
            {
                "model": row.model,
                "round": row.round,
                "cells": {site: cell.to_dict() for site, cell in row.cells.items()},
            }
            for row in matrix.rows
        ],
    }
    write_result(run_dir / FILE, content)


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
        rows = tuple(
            ModelRow(
                str(row["model"]),
                int(row["round"]),
                {str(site): Cell.from_dict(cell) for site, cell in row["cells"].items()},
            )
            for row in values["rows"]
        )
        return CrossSite(tuple(map(str, values["sites"])), rows)
