"""The exact test of paired differences by patient: their signs are flipped in all ways.

If two readers are equally good, either may have given either answer to a patient, and a patient's
difference d is as likely -d. All images of a patient change together, so the test holds however
alike they are and however many one patient has. With one image a patient and differences of -1,
0 and 1 it is McNemar's exact test.

The p-value is the mid-p: half of the chance of what was observed counts, on each side. The whole
of it would keep the error far below 5 % where patients are few, as the sums are whole numbers.

Sources: Fisher 1935, sect. 21 (flipped signs); Lancaster 1961 (mid-p); Fagerland, Lydersen & Laake
2013 (mid-p in McNemar's test); Bandos, Rockette & Gur 2005 (areas).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from primia_flwr.statistics.arrays import FloatArray
from primia_flwr.statistics.by_patient import effective_number

_ENUMERATED, _DRAWS, _SINGLY, _MANY = 14, 1 << 15, 256, 30


@dataclass(frozen=True)
class SignFlips:
    """A two-sided p-value; `smallest_p` is the least that so few differing patients can give."""

    p: float
    smallest_p: float
    differing_patients: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def sign_flips(sums: npt.ArrayLike, *, scale: float = 1.0) -> SignFlips:
    """Test whether the patients' differences (P,) lie around 0, two-sided.

    Whole numbers are tested exactly, by the distribution of their sum. So are up to 14 others;
    beyond, signs are drawn (32,768 times, the same each time), or the sum is normal where at least
    30 patients effectively differ. `scale` is a factor of the observed sum: the error that
    the signs give, over the one that it is known to have.
    """
    own = np.asarray(sums, np.float64)
    largest = float(np.abs(own).max(initial=0))
    own = own[np.abs(own) > 1e-12 * largest]
    if not len(own):
        return SignFlips(1.0, 1.0, 0)
    smallest = 0.5 ** len(own)
    return SignFlips(min(1.0, max(_mid_p(own, scale), smallest)), smallest, len(own))


def _mid_p(own: FloatArray, scale: float) -> float:
    observed = scale * abs(float(own.sum()))
    if scale == 1 and (own == np.rint(own)).all():
        return _of_whole_numbers(np.abs(own).astype(np.int64), round(observed))
    if len(own) > _ENUMERATED and effective_number(own) >= _MANY:
        return math.erfc(observed / math.sqrt(2 * float(np.square(own).sum())))
    drawn, equal = np.abs(_flipped(own)), 1e-6 * float(np.abs(own).sum())
    if observed <= equal:
        return 1.0
    beyond = float((drawn > observed + equal).mean())
    return beyond + float((np.abs(drawn - observed) <= equal).mean()) / 2


def _of_whole_numbers(sizes: npt.NDArray[np.int64], observed: int) -> float:
    """Return the mid-p from the distribution of the sum, by its characteristic function."""
    length = 1 << (2 * int(sizes.sum()) + 1).bit_length()
    angles = 2 * np.pi * np.arange(length // 2 + 1) / length
    characteristic = np.ones_like(angles)
    for size, count in zip(*np.unique(sizes, return_counts=True), strict=True):
        characteristic *= np.cos(size * angles) ** count
    chances = np.clip(np.fft.irfft(characteristic, length)[: length // 2], 0, None)
    return float(2 * chances[observed + 1 :].sum() + chances[observed])


def _flipped(own: FloatArray) -> FloatArray:
    """Return sums with all signs there are, or with many drawn; small ones then add up normally."""
    if len(own) <= _ENUMERATED:
        bits = np.arange(2 ** len(own))[:, None] >> np.arange(len(own))
        return np.asarray((1 - 2 * (bits & 1)) @ own)
    order = np.argsort(-np.abs(own), kind="stable")
    large, small = own[order[:_SINGLY]], own[order[_SINGLY:]]
    sums = (_signs()[:, : len(large)] @ large.astype(np.float32)).astype(np.float64)
    rest = math.sqrt(float(np.square(small).sum()))
    return sums + rest * np.random.default_rng(1).normal(size=_DRAWS) if rest else sums


@lru_cache(maxsize=1)
def _signs() -> npt.NDArray[np.float32]:
    """Return random signs, (draws, patients at most); the same in every process."""
    drawn = np.random.default_rng(0).integers(0, 2, (_SINGLY, _DRAWS), dtype=np.int8)
    return (2 * drawn - 1).astype(np.float32).T
