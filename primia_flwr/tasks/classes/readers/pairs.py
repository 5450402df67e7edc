"""Every pair of readers: tables (b) and (c) of a comparison, and the paired differences."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from primia_flwr.statistics.agreement import McNemar, holm, kappa, mcnemar_test
from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.statistics.delong import area_difference, difference_variance
from primia_flwr.statistics.intervals import (
    Interval,
    Statistic,
    Strata,
    bootstrap_limits,
    bootstrapped,
    stacked,
)
from primia_flwr.statistics.swapped_areas import swap_test
from primia_flwr.tasks.classes.bootstrap import confusion_statistic
from primia_flwr.tasks.classes.readers.figures import areas_of
from primia_flwr.tasks.classes.readers.panel import Panel, Reader


@dataclass(frozen=True)
class Pair:
    """Two readers; differences are first minus second.

    All p-values are by patient. `p_holm` corrects McNemar's over all pairs, `area_p_holm` that of
    the areas over all pairs of models. The area's entries are None where one of the two has no
    probabilities.
    """

    first: str
    second: str
    mcnemar: McNemar
    p_holm: float | None
    kappa: Interval
    accuracy_difference: Interval
    mcc_difference: Interval
    area_difference: Interval | None
    area_p: float | None
    area_p_holm: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def pairs(panel: Panel, *, seed: int, resamples: int) -> list[Pair]:
    """Compare every reader with every later one; p-values corrected by Holm's method."""
    couples = list(combinations(panel.readers, 2))
    if not couples:
        return []
    differences = _differences(panel, couples, seed=seed, resamples=resamples)
    found = [_pair(panel, *couple, row) for couple, row in zip(couples, differences, strict=True)]
    corrected = holm([pair.mcnemar.p for pair in found])
    areas = holm([pair.area_p for pair in found])
    return [
        replace(pair, p_holm=p, area_p_holm=area_p)
        for pair, p, area_p in zip(found, corrected, areas, strict=True)
    ]


def kappa_with_truth(panel: Panel) -> dict[str, Interval]:
    """Return Cohen's kappa of each reader with the true classes."""
    size, units = len(panel.classes), panel.units
    return {r.name: kappa(r.predicted, panel.labels, size, units) for r in panel.readers}


def _differences(
    panel: Panel, couples: list[tuple[Reader, Reader]], *, seed: int, resamples: int
) -> list[FloatArray]:
    """Return for each couple (accuracy, MCC) x (value, low, high), on the same resamples."""
    strata = Strata.by_class(panel.patients, panel.labels)
    size = len(panel.classes)
    of = {
        reader.name: confusion_statistic(panel.labels, reader.predicted, size, strata)
        for reader in panel.readers
    }

    def difference(first: Reader, second: Reader) -> Statistic:
        return lambda weights: (of[first.name](weights) - of[second.name](weights))[:2]

    statistic = stacked([difference(*couple) for couple in couples])
    rng = np.random.default_rng(seed)
    limits = bootstrap_limits(statistic, strata, rng=rng, resamples=resamples)
    return list(np.split(np.stack(limits, axis=1), len(couples)))


def _area_test(panel: Panel, first: Reader, second: Reader) -> tuple[Interval | None, float | None]:
    """Return the difference of two areas and its p-value, where both readers have one."""
    areas = [areas_of(panel, reader) for reader in (first, second)]
    if areas[0] is None or areas[1] is None:
        return None, None
    assert first.probabilities is not None
    assert second.probabilities is not None
    variance = difference_variance(areas[0], areas[1], panel.units)
    scores = first.probabilities, second.probabilities
    p = swap_test(panel.labels, *scores, panel.units, variance=variance).p
    return area_difference(areas[0], areas[1], panel.units), p


def _pair(panel: Panel, first: Reader, second: Reader, row: FloatArray) -> Pair:
    units: IntArray = panel.units
    accuracy, mcc = (bootstrapped(one, patients=panel.num_patients, rate=False) for one in row)
    difference, p = _area_test(panel, first, second)
    return Pair(
        first=first.name,
        second=second.name,
        mcnemar=mcnemar_test(panel.labels, first.predicted, second.predicted, units),
        p_holm=None,
        kappa=kappa(first.predicted, second.predicted, len(panel.classes), units),
        accuracy_difference=accuracy,
        mcc_difference=mcc,
        area_difference=difference,
        area_p=p,
        area_p_holm=None,
    )
