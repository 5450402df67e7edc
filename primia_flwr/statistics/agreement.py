"""How two readers of the same images compare: McNemar's test and Cohen's kappa, each pair.

Both count images. McNemar's test and the interval of kappa treat images as independent; where
patients have several images, Durkalski's form of the test, which does not, is given as well.

Sources: McNemar 1947; Durkalski, Palesch, Lipsitz & Rust 2003; Cohen 1960; Fleiss, Cohen &
Everitt 1969 (variance of kappa); Holm 1979. Computed by statsmodels, Durkalski's by hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests

from primia_flwr.statistics.arrays import IntArray
from primia_flwr.statistics.intervals import Interval

EXACT_BELOW = 25
_KAPPA = "Fleiss-Cohen-Everitt"


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of whether two readers are right equally often.

    `only_first` and `only_second` count the discordant images: those that one reader alone had
    right. `p` is two-sided; `p_by_patient` is Durkalski's, None where no patient repeats.
    `method` is `exact` (binomial) or `chi-squared, continuity corrected`.
    """

    both_right: int
    only_first: int
    only_second: int
    both_wrong: int
    statistic: float | None
    p: float
    method: str
    p_by_patient: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def mcnemar_test(
    labels: IntArray, first: IntArray, second: IntArray, patients: npt.ArrayLike
) -> McNemar:
    """Compare two readers' classes of the same N images; all arguments are (N,).

    Exact with fewer than 25 discordant images, else chi-squared with continuity correction.
    """
    a, b = first == labels, second == labels
    only_first, only_second = int((a & ~b).sum()), int((~a & b).sum())
    table = [[int((a & b).sum()), only_first], [only_second, int((~a & ~b).sum())]]
    discordant = only_first + only_second
    exact = discordant < EXACT_BELOW
    result = mcnemar(table, exact=exact, correction=True)
    return McNemar(
        both_right=table[0][0],
        only_first=only_first,
        only_second=only_second,
        both_wrong=table[1][1],
        statistic=None if exact else float(result.statistic),
        p=min(1.0, float(result.pvalue)) if discordant else 1.0,
        method="exact" if exact else "chi-squared, continuity corrected",
        p_by_patient=_by_patient(a.astype(np.int64) - b.astype(np.int64), patients),
    )


def kappa(first: IntArray, second: IntArray, classes: int) -> Interval:
    """Return Cohen's unweighted kappa of two readers, in [-1, 1], with its 95 % interval.

    It is not defined where both put every image into one and the same class.
    """
    table = np.zeros((classes, classes))
    np.add.at(table, (first, second), 1)
    if np.count_nonzero(table) == 1 and np.trace(table) == len(first):
        return Interval(None, note="both put every image into the same class")
    with np.errstate(all="ignore"):  # no variance: NaN, looked at below
        found = cohens_kappa(table)
    value = float(found.kappa)
    if value == 1:
        return Interval(value, note="perfect agreement has no variance to be estimated")
    low, high = float(found.kappa_low), float(found.kappa_upp)
    if math.isnan(low) or math.isnan(high):
        return Interval(value, note="the variance cannot be estimated")
    return Interval(value, max(-1.0, low), min(1.0, high), _KAPPA)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p-values corrected by Holm's method; None stays None and is not counted."""
    known = [p for p in p_values if p is not None]
    if not known:
        return list(p_values)
    corrected = iter(multipletests(known, method="holm")[1])
    return [None if p is None else float(next(corrected)) for p in p_values]


def _by_patient(differences: IntArray, patients: npt.ArrayLike) -> float | None:
    """Return Durkalski's p-value: differences (N,) in {-1, 0, 1} summed over each patient."""
    names, of = np.unique(np.asarray(patients), return_inverse=True)
    if len(names) == len(differences):
        return None
    sums = np.bincount(of, weights=differences)
    spread = float((sums**2).sum())
    return float(chi2.sf(float(sums.sum()) ** 2 / spread, df=1)) if spread else 1.0
