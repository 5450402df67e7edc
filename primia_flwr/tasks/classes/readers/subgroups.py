"""Accuracy and MCC of every reader in every group of images, where the group is large enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from primia_flwr.statistics.arrays import IntArray
from primia_flwr.statistics.intervals import (
    Interval,
    Statistic,
    Strata,
    bootstrap_limits,
    bootstrapped,
    stacked,
)
from primia_flwr.tasks.classes.bootstrap import confusion_statistic
from primia_flwr.tasks.classes.readers.panel import Panel

_MIN_PATIENTS = 10


@dataclass(frozen=True)
class Subgroup:
    """One group: `accuracy` and `mcc` by reader, empty below 10 patients."""

    column: str
    group: str
    images: int
    patients: int
    accuracy: dict[str, Interval]
    mcc: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def subgroups(
    panel: Panel, groups: Mapping[str, Mapping[str, str]], *, seed: int, resamples: int
) -> list[Subgroup]:
    """Return one row for each group of images of each column in `groups`: column, file, group."""
    found = []
    for column, of in groups.items():
        own = np.array([of.get(file, "") for file in panel.files])
        for name in sorted({of[file] for file in panel.files if file in of}):
            part = panel.select(np.flatnonzero(own == name))
            found.append(_subgroup(part, column, name, seed=seed, resamples=resamples))
    return found


def _subgroup(part: Panel, column: str, name: str, *, seed: int, resamples: int) -> Subgroup:
    n = part.num_patients
    if n < _MIN_PATIENTS:
        return Subgroup(column, name, len(part), n, {}, {})
    strata = Strata.by_class(part.patients, part.labels)
    limits = bootstrap_limits(
        stacked([_accuracy_and_mcc(part, reader.predicted, strata) for reader in part.readers]),
        strata,
        rng=np.random.default_rng(seed),
        resamples=resamples,
    )
    rows = np.split(np.stack(limits, axis=1), len(part.readers))
    one_class = len(np.unique(part.labels)) == 1
    accuracy, mcc = {}, {}
    for reader, (first, second) in zip(part.readers, rows, strict=True):
        accuracy[reader.name] = bootstrapped(first, patients=n, rate=True)
        none = Interval(None, note="images of one class only")
        mcc[reader.name] = none if one_class else bootstrapped(second, patients=n, rate=False)
    return Subgroup(column, name, len(part), n, accuracy, mcc)


def _accuracy_and_mcc(part: Panel, predicted: IntArray, strata: Strata) -> Statistic:
    whole = confusion_statistic(part.labels, predicted, len(part.classes), strata)
    return lambda weights: whole(weights)[:2]
