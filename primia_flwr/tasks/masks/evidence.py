"""What stands behind the scores of masks: intervals of all models, by patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from primia_flwr.statistics.arrays import FloatArray, IntArray, mean_known
from primia_flwr.statistics.intervals import (
    Interval,
    Statistic,
    Strata,
    bootstrap_limits,
    bootstrapped,
    stacked,
)
from primia_flwr.tasks.masks.counts import confusion_of, iou_of
from primia_flwr.tasks.masks.scores import FIGURES, CaseScores, score_cases
from primia_flwr.tasks.predictions import Predictions

RATES = ("dice", "iou")
"""The figures in [0, 1]; the others are distances."""


@dataclass(frozen=True)
class Judged:
    """One model's predictions and the figures of each image."""

    made: Predictions
    cases: CaseScores

    @classmethod
    def of(cls, made: Predictions) -> Judged:
        """Compute the figures."""
        return cls(made, score_cases(made.labels, made.outputs, len(made.names)))


def strata_of(made: Predictions) -> Strata:
    """Return the patients of some masks, by the last class that most of their images show."""
    return Strata.by_class(made.patients, _last_class(made.labels))


def mask_evidence(
    models: Mapping[str, Predictions], shown: Sequence[str], *, seed: int, resamples: int
) -> dict[str, Any]:
    """Return the figures `shown` of every model; those of the first also by class."""
    judged = {name: Judged.of(made) for name, made in models.items()}
    found = figures_with_intervals(judged, seed=seed, resamples=resamples)
    first = next(iter(models))
    return {
        "figures": {
            name: {key: of_model[key, ""].to_dict() for key in shown}
            for name, of_model in found.items()
        },
        "per_class": {
            name: {key: found[first][key, name].to_dict() for key in FIGURES}
            for name in models[first].names[1:]
        },
    }


def figures_with_intervals(
    judged: Mapping[str, Judged], *, seed: int, resamples: int
) -> dict[str, dict[tuple[str, str], Interval]]:
    """Return each model's figures by (figure, class), no class where of all.

    All models are on the same images, and see the same resamples of patients.
    """
    made = next(iter(judged.values())).made
    strata = strata_of(made)
    statistics = [mask_statistic(one, strata) for one in judged.values()]
    rng = np.random.default_rng(seed)
    limits = bootstrap_limits(stacked(statistics), strata, rng=rng, resamples=resamples)
    rows = np.split(np.stack(limits, axis=1), len(judged))
    keys = [(figure, name) for figure in FIGURES for name in ("", *made.names[1:])]
    return {
        name: {
            key: bootstrapped(row, patients=strata.size, rate=key[0] in RATES)
            for key, row in zip(keys, of_model, strict=True)
        }
        for name, of_model in zip(judged, rows, strict=True)
    }


def mask_statistic(judged: Judged, strata: Strata) -> Statistic:
    """Return the function from weights (B, P) of patients to figures, (4 (1 + K), B).

    Of each of `FIGURES` the mean over classes, then each of the K classes.
    """
    made, parts = judged.made, []
    pixels = _of_patients(confusion_of(made.labels, made.outputs, len(made.names)), strata)
    for figure in FIGURES:
        values = judged.cases.values[figure]
        parts.append((_of_patients(np.nan_to_num(values), strata),
                      _of_patients((~np.isnan(values)).astype(np.float64), strata)))  # fmt: skip

    def statistic(weights: FloatArray) -> FloatArray:
        rows = []
        for figure, (sums, counts) in zip(FIGURES, parts, strict=True):
            if figure == "iou":
                of_class = iou_of(np.einsum("bp,pij->bij", weights, pixels))[:, 1:]
            else:
                with np.errstate(invalid="ignore"):
                    of_class = (weights @ sums) / (weights @ counts)
            rows += [mean_known(of_class, axis=1), *of_class.T]
        return np.array(rows)

    return statistic


def _of_patients(values: npt.NDArray[Any], strata: Strata) -> FloatArray:
    """Add up the values of images (N, ...) by patient, (P, ...)."""
    sums = np.zeros((strata.size, *values.shape[1:]))
    np.add.at(sums, strata.of, values)
    return sums


def _last_class(labels: npt.NDArray[Any]) -> IntArray:
    return np.asarray(labels.reshape(len(labels), -1).max(axis=1), np.int64)
