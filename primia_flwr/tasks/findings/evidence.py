"""What stands behind the scores of findings: intervals by patient, over known labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from primia_flwr.statistics.arrays import FloatArray, IntArray, mean_known
from primia_flwr.statistics.auc import SortedScores
from primia_flwr.statistics.bootstrap_t import class_area_interval
from primia_flwr.statistics.intervals import (
    Interval,
    Statistic,
    Strata,
    bootstrap_limits,
    bootstrapped,
    stacked,
)
from primia_flwr.tasks.findings import UNKNOWN
from primia_flwr.tasks.findings.counts import rarest_of
from primia_flwr.tasks.findings.scores import FIGURES
from primia_flwr.tasks.predictions import Predictions

RATES = ("sensitivity", "specificity")


def findings_evidence(
    models: Mapping[str, Predictions], shown: Sequence[str], *, seed: int, resamples: int
) -> dict[str, Any]:
    """Return the figures `shown` of every model; those of the first also by finding."""
    first = next(iter(models.values()))
    strata = strata_of(first.labels, first.patients)
    statistics = [findings_statistic(made, strata) for made in models.values()]
    rng = np.random.default_rng(seed)
    limits = bootstrap_limits(stacked(statistics), strata, rng=rng, resamples=resamples)
    rows = np.split(np.stack(limits, axis=1), len(models))
    own = rows[0][len(FIGURES) :].reshape(len(first.names), len(RATES), 3)
    return {
        "figures": {
            name: {key: _figure(of[FIGURES.index(key)], strata).to_dict() for key in shown}
            for name, of in zip(models, rows, strict=True)
        },
        "per_finding": {
            name: {
                "auc": _area(first, k, seed, resamples).to_dict(),
                **{key: _figure(own[k, j], strata).to_dict() for j, key in enumerate(RATES)},
            }
            for k, name in enumerate(first.names)
        },
    }


def strata_of(labels: IntArray, patients: Sequence[str]) -> Strata:
    """Return the patients of some images, grouped by the rarest finding that most of them show."""
    return Strata.by_class(patients, rarest_of(labels))


def findings_statistic(made: Predictions, strata: Strata) -> Statistic:
    """Return the function from weights (B, P) of patients to `FIGURES`, then `RATES` by finding.

    (4 + 2 F, B); each of `FIGURES` is the mean over the findings that are defined in the sample.
    """
    columns = [
        _Finding(made.labels[:, k], made.outputs[:, k], strata) for k in range(len(made.names))
    ]

    def statistic(weights: FloatArray) -> FloatArray:
        found = np.stack([column.figures(weights) for column in columns])  # (F, 3, B)
        areas, rates = found[:, 0], found[:, 1:]
        both = np.isfinite(areas) & np.isfinite(rates).all(axis=1)
        shown = (areas, rates.mean(axis=1), rates[:, 0], rates[:, 1])
        means = [mean_known(np.where(both, one, np.nan), axis=0) for one in shown]
        return np.concatenate([np.stack(means), rates.reshape(-1, weights.shape[0])])

    return statistic


class _Finding:
    """One finding over its known labels, for many samples of patients."""

    def __init__(self, labels: IntArray, outputs: FloatArray, strata: Strata) -> None:
        known = labels != UNKNOWN
        present, called = labels[known] == 1, outputs[known] >= 0.5
        self._patient = strata.of[known]
        self._sorted = SortedScores(present, outputs[known]) if known.any() else None
        self._cells = np.zeros((strata.size, 4))
        np.add.at(self._cells, (self._patient, 2 * present + called), 1)

    def figures(self, weights: FloatArray) -> FloatArray:
        """Return area, sensitivity and specificity, (3, B)."""
        if self._sorted is None:
            return np.full((3, len(weights)), np.nan)
        right_absent, wrong_absent, wrong_present, right_present = (weights @ self._cells).T
        area, _ = self._sorted.areas(weights[:, self._patient])
        with np.errstate(divide="ignore", invalid="ignore"):
            sensitivity = right_present / (right_present + wrong_present)
            specificity = right_absent / (right_absent + wrong_absent)
        return np.stack([area, sensitivity, specificity])


def _figure(row: FloatArray, strata: Strata) -> Interval:
    undefined = "no image in which it is present, or none in which it is absent"
    return bootstrapped(row, patients=strata.size, rate=True, undefined=undefined)


def _area(made: Predictions, k: int, seed: int, resamples: int) -> Interval:
    """Return the area of a finding over its known labels, with DeLong's studentised interval."""
    known = np.flatnonzero(made.labels[:, k] != UNKNOWN)
    present = made.labels[known, k] == 1
    if not known.size or present.all() or not present.any():
        return Interval(None, note="no image in which it is present, or none in which it is absent")
    strata = Strata.by_class([made.patients[row] for row in known], present.astype(np.int64))
    rng = np.random.default_rng(seed)
    return class_area_interval(
        made.outputs[known, k], present, strata, rng=rng, resamples=resamples
    )
