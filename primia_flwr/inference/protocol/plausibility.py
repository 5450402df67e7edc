"""Could these scores be the model's? The data owner looks itself, at every answer it gets.

A number that is cut wrongly is off by 2^48 units, 2^35 as a real, and a comparison outside its ring
gives rubbish too. Nobody but the data owner knows the scores, so nobody else can see it. They are
judged by the smaller of two limits: what fixed point can honestly say, and, of a model that was
calibrated, 16 times the largest score on its owner's images, rounded up to a power of two. What is
within can still be wrong; an audit looks at every number.
"""

import math
from enum import StrEnum

import torch
from torch import Tensor

HONEST_LIMIT = 2.0**18  # 2^31 units; also what an audit takes scores and pixels for
_SPARE = 16.0


class Verdict(StrEnum):
    """What became of an image: only the first one has scores."""

    PLAUSIBLE = "plausible"
    IMPLAUSIBLE = "implausible"  # scores that cannot be right
    OUTSIDE = "outside"  # the audit found a number of its batch outside its ring


def limit_of(largest: float) -> float:
    """Return the limit of a calibrated model, whose largest score was `largest`; at least 1."""
    return min(2.0 ** math.ceil(math.log2(max(_SPARE * largest, 1.0))), HONEST_LIMIT)


def limit_that_holds(offered: float) -> float:
    """Return below what scores must be in magnitude; 0: the model owner offers no limit."""
    return min(offered, HONEST_LIMIT) if offered > 0 else HONEST_LIMIT


def judged(scores: Tensor, limit: float) -> Tensor:
    """Return scores with NaN for the images whose scores cannot be right.

    Parameters
    ----------
    scores : Tensor
        (N, classes) or (N, classes, H, W), float64.
    limit : float
        As the model owner offers it, see `limit_that_holds`.
    """
    good = (scores.abs() < limit_that_holds(limit)).flatten(1).all(dim=1)  # NaN is not
    rows = good.view(-1, *[1] * (scores.dim() - 1))
    return torch.where(rows, scores, torch.full_like(scores, torch.nan))


def verdict(scores: Tensor | None) -> Verdict:
    """Return what `judged` found of one image's scores; None: what an audit did."""
    if scores is None:
        return Verdict.OUTSIDE
    return Verdict.PLAUSIBLE if bool(scores.isfinite().all()) else Verdict.IMPLAUSIBLE
