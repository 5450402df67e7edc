"""Every figure of every reader with its interval: table (a) of a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from primia_flwr.errors import DataError
from primia_flwr.evaluation.delong import Area, area, area_interval, weighted_area
from primia_flwr.evaluation.figures import area_statistic, confusion_names, confusion_statistic
from primia_flwr.evaluation.intervals import (
    BOOTSTRAP,
    WILSON,
    Interval,
    Statistic,
    Strata,
    bootstrap_limits,
    wilson,
)
from primia_flwr.evaluation.metrics import FloatArray, IntArray
from primia_flwr.evaluation.panel import Panel, Reader


@dataclass(frozen=True)
class ReaderFigures:
    """One reader's figures; those of ROC curves are None for a person.

    `roc_auc` is the class-weighted one-vs-rest area with DeLong's interval, `roc_auc_bootstrap`
    the same area with the bootstrap's. `confusion[i][j]` counts images of class i called j.
    """

    accuracy: Interval
    mcc: Interval
    sensitivity: dict[str, Interval]
    specificity: dict[str, Interval]
    roc_auc: Interval | None
    roc_auc_bootstrap: Interval | None
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


def stacked(statistics: Sequence[Statistic]) -> Statistic:
    """Return one statistic with the rows of all."""
    return lambda weights: np.concatenate([statistic(weights) for statistic in statistics])


def confusion_matrix(labels: IntArray, predicted: IntArray, num_classes: int) -> IntArray:
    """Return counts (C, C), true class by row."""
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def bootstrapped(row: FloatArray, *, patients: int, rate: bool, undefined: str = "") -> Interval:
    """Return the interval of one figure from (value, low, high).

    A rate of exactly 0 or 1 never varies among resamples and has Wilson's interval instead,
    each of `patients` counted once; a coefficient that never varies has none.
    """
    value, low, high = (float(one) for one in row)
    if math.isnan(value):
        return Interval(None, note=undefined or "not defined on these images")
    if rate and value in (0.0, 1.0):
        low, high = wilson(value * patients, patients)
        return Interval(value, low, high, WILSON, "no resample differs; one count a patient")
    if math.isnan(low) or math.isnan(high):
        return Interval(value, note="the resamples do not vary enough for an interval")
    return Interval(value, low, high, BOOTSTRAP)


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
        return {"roc_auc": None, "roc_auc_bootstrap": None, "roc_auc_per_class": {}}
    whole = areas_of(panel, reader)
    rng = np.random.default_rng(seed)
    statistic = area_statistic(panel.labels, p, len(panel.classes), strata)
    limits = bootstrap_limits(statistic, strata, rng=rng, resamples=resamples)
    row = np.stack(limits, axis=1)[0]
    found = bootstrapped(row, patients=panel.num_patients, rate=False)
    return {
        "roc_auc": area_interval(whole, panel.units)
        if whole
        else Interval(found.value, note="a class has fewer than 2 patients"),
        "roc_auc_bootstrap": found,
        "roc_auc_per_class": {
            name: _class_area(panel, p[:, k], k) for k, name in enumerate(panel.classes)
        },
    }


def _class_area(panel: Panel, scores: FloatArray, k: int) -> Interval:
    try:
        found = area(scores, panel.labels == k, panel.units)
    except DataError as error:
        return Interval(None, note=str(error))
    return area_interval(found, panel.units)
