"""A mechanism, run many times on two neighbours, against what the accountant says of it.

The claim is the accountant's at `DELTA`. A mechanism's epsilon is a curve over delta: at a small
delta the runs that show it are too rare to be counted, at this one some ten thousand come near it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from primia_flwr.privacy.accounting.accountant import epsilon
from primia_flwr.privacy.accounting.empirical_epsilon import repeated_runs_lower_bound
from primia_flwr.privacy.accounting.events import AnyEvent

DELTA = 0.05
_TOWARDS_MIDDLE = 0.9


def best_log_ratio(real: AnyEvent) -> float:
    """Return the log-likelihood ratio to cut at, for a mechanism that is really this event.

    The best with endless runs is its epsilon; a little less leaves more runs to count.
    """
    return _TOWARDS_MIDDLE * epsilon([real], delta=DELTA).epsilon


def compare(
    claimed: AnyEvent, *, threshold: float, one: NDArray[np.float64], other: NDArray[np.float64]
) -> dict[str, Any]:
    """Return the claim, the lower bound and its counts.

    Parameters
    ----------
    threshold : float
        Fixed before the runs.
    one, other : ndarray
        (runs,) each: what is seen of runs on the two inputs, larger on `one`.
    """
    claim = epsilon([claimed], delta=DELTA)
    hits, alarms = (int((seen >= threshold).sum()) for seen in (one, other))
    bound = repeated_runs_lower_bound(
        hits=hits, hit_runs=len(one), alarms=alarms, alarm_runs=len(other), delta=DELTA
    )
    return {
        "claimed_epsilon": claim.epsilon,
        "delta": DELTA,
        "accountant": claim.accountant,
        "lower_bound": bound,
        "hits": hits,
        "alarms": alarms,
        "runs": len(one),
        "exceeds_claim": bound > claim.epsilon,
    }
