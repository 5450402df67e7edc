"""The line that differential privacy draws: no attack has a truer positive rate than this.

For a mechanism that is (epsilon, delta)-private with respect to a unit, any test of whether the
unit was in the data satisfies TPR <= e^epsilon FPR + delta and, with the roles exchanged,
1 - FPR <= e^epsilon (1 - TPR) + delta.

Source: Kairouz, Oh, Viswanath 2015, The Composition Theorem for Differential Privacy, Theorem
2.1, https://arxiv.org/abs/1311.0776.
"""

import math
from dataclasses import dataclass
from typing import Any

from primia_flwr.attacks.membership.detection import Detection
from primia_flwr.config.checks import check_range


@dataclass(frozen=True)
class DpClaim:
    """What a run guarantees to each `unit` (patient or image) at its site."""

    epsilon: float
    delta: float
    unit: str

    def __post_init__(self) -> None:
        check_range("epsilon", self.epsilon, 0, example=3)
        check_range("delta", self.delta, 0, 1, example=1e-5)

    def most(self, fpr: float) -> float:
        """Return the largest true positive rate that the claim allows at a false positive rate."""
        ratio = math.exp(min(self.epsilon, 700.0))
        forward = ratio * fpr + self.delta
        backward = 1 - (1 - fpr - self.delta) / ratio
        return max(0.0, min(1.0, forward, backward))


def compare(claim: DpClaim, found: Detection) -> list[dict[str, Any]]:
    """Return, for each false positive rate that was measured, the rate found and the bound.

    `verdict`: "within"; "above by chance?" where the rate found passes the bound and its interval
    does not; "above" where the whole interval lies beyond the bound. An attack within the bound
    proves nothing about better ones.
    """
    rows = []
    for rate, estimate in found.tpr_at.items():
        if estimate is None:
            continue
        most = claim.most(rate)
        verdict = "within"
        if estimate.value > most:
            verdict = "above" if estimate.low > most else "above by chance?"
        rows.append(
            {"fpr": rate, "tpr": estimate.value, "most_allowed": round(most, 6), "verdict": verdict}
        )
    return rows
