"""How two readers of the same images compare, by patient: who is right more often, Cohen's kappa.

Images of one patient resemble each other, so patients are what is counted: their signs are flipped
in the test (see `sign_flips`), and their sums make the variance of kappa. With one image a patient
these are McNemar's exact test (mid-p), and the variance of Fleiss, Cohen & Everitt.

Sources: McNemar 1947; Cohen 1960; Fleiss, Cohen & Everitt 1969, eq. 13; Yang & Zhou 2014 (kappa by
patient); Holm 1979.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from statsmodels.stats.multitest import multipletests

from primia_flwr.statistics.arrays import IntArray
from primia_flwr.statistics.by_patient import patient_sums, student_reach
from primia_flwr.statistics.intervals import Interval
from primia_flwr.statistics.sign_flips import sign_flips

_METHOD = "McNemar by patient, exact mid-p"
_KAPPA = "Fleiss-Cohen-Everitt by patient, Fisher's scale"


@dataclass(frozen=True)
class McNemar:
    """The test of whether two readers are right equally often, by patient.

    `only_first` and `only_second` count the discordant images: those that one reader alone had
    right. `p` is two-sided; with `differing_patients`, those on whom one reader had more images
    right than the other, it cannot be smaller than `smallest_p`.
    """

    both_right: int
    only_first: int
    only_second: int
    both_wrong: int
    p: float
    smallest_p: float
    differing_patients: int
    method: str = _METHOD

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def mcnemar_test(
    labels: IntArray, first: IntArray, second: IntArray, patients: npt.ArrayLike
) -> McNemar:
    """Compare two readers' classes of the same N images; all arguments are (N,)."""
    a, b = first == labels, second == labels
    found = sign_flips(patient_sums(a.astype(np.float64) - b, patients))
    return McNemar(
        both_right=int((a & b).sum()),
        only_first=int((a & ~b).sum()),
        only_second=int((~a & b).sum()),
        both_wrong=int((~a & ~b).sum()),
        **found.to_dict(),
    )


def kappa(first: IntArray, second: IntArray, classes: int, patients: npt.ArrayLike) -> Interval:
    """Return Cohen's unweighted kappa of two readers, in [-1, 1], with its 95 % interval.

    All arrays are (N,). It is not defined where both put every image into one and the same class.
    The interval is computed on Fisher's scale atanh(kappa), as the error depends on kappa itself.
    The quantile is Student's with as many patients as vary like theirs (see `by_patient`).
    """
    table = np.zeros((classes, classes))
    np.add.at(table, (first, second), 1)
    if np.count_nonzero(table) == 1 and np.trace(table) == len(first):
        return Interval(None, note="both put every image into the same class")
    shares = table / len(first)
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    agreed, chance = float(np.trace(shares)), float(rows @ columns)
    value = (agreed - chance) / (1 - chance)
    if abs(value) >= 1:
        return Interval(value, note="perfect agreement has no variance to be estimated")
    added = (first == second) * (1 - chance) - (1 - agreed) * (columns[first] + rows[second])
    added -= agreed * chance - 2 * chance + agreed
    sums = patient_sums(added, patients) / (len(first) * (1 - chance) ** 2)
    variance = float(np.square(sums).sum()) * len(sums) / max(len(sums) - 1, 1)
    reach = student_reach(variance, patients)
    if reach is None:
        return Interval(value, note="one patient rules, or all are alike: no variance")
    middle, reach = math.atanh(value), reach / (1 - value**2)
    return Interval(value, math.tanh(middle - reach), math.tanh(middle + reach), _KAPPA)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p-values corrected by Holm's method; None stays None and is not counted."""
    known = [p for p in p_values if p is not None]
    if not known:
        return list(p_values)
    corrected = iter(multipletests(known, method="holm")[1])
    return [None if p is None else float(next(corrected)) for p in p_values]
