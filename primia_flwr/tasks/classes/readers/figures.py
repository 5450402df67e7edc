"""Every figure of every reader with its interval: table (a) of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from primia_flwr.errors import DataError
from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.statistics.bootstrap_t import class_area_interval, weighted_area_interval
from primia_flwr.statistics.delong import Area, weighted_area
from primia_flwr.statistics.intervals import (
    Interval,
    Statistic,
    Strata,
    bootstrap_limits,
    bootstrapped,
    stacked,
)
from primia_flwr.tasks.classes.bootstrap import confusion_names, confusion_statistic
from primia_flwr.tasks.classes.readers.panel import Panel, Reader


@dataclass(frozen=True)
class ReaderFigures:
    """One reader's figures; those of ROC curves are None for a person.

    `roc_auc` is the class-weighted one-vs-rest area. `confusion[i][j]` counts images of class i
    called j.
    """

    accuracy: Interval
    mcc: Interval
    sensitivity: dict[str, Interval]
    specificity: dict[str, Interval]
    roc_auc: Interval | None
    roc_auc_per_class: dict[str, Interval]
    confusion: list[list[int]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def reader_figures(panel: Panel, *, seed: int, resamples: int) -> dict[str, ReaderFigures]:
    """Return the figures of each reader; all readers see the same resamples."""
    strata = Strata.by_class(panel.patients, panel.labels)
    statistics = [_confusion(panel, reader, strata) for reader in panel.readers]
    rng = np.random.default_rng(seed)
    limits = bootstrap_limits(stacked(statistics), strata, rng=rng, resamples=resamples)
    rows = np.split(np.stack(limits, axis=1), len(panel.readers))
    return {
        reader.name: _of_one(panel, reader, of_reader, strata, seed=seed, resamples=resamples)
        for reader, of_reader in zip(panel.readers, rows, strict=True)
    }


def confusion_matrix(labels: IntArray, predicted: IntArray, classes: int) -> IntArray:
    """Return counts (C, C), true class by row."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def areas_of(panel: Panel, reader: Reader) -> Area | None:
    """Return the class-weighted area of a reader; None for a person or where not defined."""
    if reader.probabilities is None:
        return None
    try:
        return weighted_area(panel.labels, reader.probabilities, panel.units)
    except DataError:
        return None


def _confusion(panel: Panel, reader: Reader, strata: Strata) -> Statistic:
    return confusion_statistic(panel.labels, reader.predicted, len(panel.classes), strata)


def _of_one(
    panel: Panel, reader: Reader, rows: FloatArray, strata: Strata, *, seed: int, resamples: int
) -> ReaderFigures:
    found: dict[str, dict[str, Interval]] = {}
    for row, (figure, name) in zip(rows, confusion_names(panel.classes), strict=True):
        counted = _counted(panel, figure, name)
        undefined = "no image of this class" if figure == "sensitivity" else "no other class"
        found.setdefault(figure, {})[name] = bootstrapped(
            row, patients=counted, rate=figure != "mcc", undefined=undefined
        )
    return ReaderFigures(
        accuracy=found["accuracy"][""],
        mcc=found["mcc"][""],
        sensitivity=found["sensitivity"],
        specificity=found["specificity"],
        confusion=confusion_matrix(panel.labels, reader.predicted, len(panel.classes)).tolist(),
        **_areas(panel, reader, strata, seed=seed, resamples=resamples),
    )


def _counted(panel: Panel, figure: str, name: str) -> int:
    """Return how many patients a rate counts."""
    if not name:
        return panel.num_patients
    own = panel.labels == panel.classes.index(name)
    return len(np.unique(panel.units[own if figure == "sensitivity" else ~own]))


def _areas(
    panel: Panel, reader: Reader, strata: Strata, *, seed: int, resamples: int
) -> Mapping[str, Any]:
    p = reader.probabilities
    if p is None:
        return {"roc_auc": None, "roc_auc_per_class": {}}

    def rng() -> np.random.Generator:
        return np.random.default_rng(seed)  # all areas see the same resamples

    return {
        "roc_auc": weighted_area_interval(panel.labels, p, strata, rng=rng(), resamples=resamples),
        "roc_auc_per_class": {
            name: class_area_interval(
                p[:, k], panel.labels == k, strata, rng=rng(), resamples=resamples
            )
            for k, name in enumerate(panel.classes)
        },
    }
