"""The bound of differential privacy on any test, by hand."""

import math

import numpy as np
import pytest

from primia_flwr.attacks.membership.detection import Detection, Estimate
from primia_flwr.attacks.membership.dp_line import DpClaim, compare
from primia_flwr.errors import ConfigError


@pytest.mark.parametrize("fpr", [0.0, 0.001, 0.3, 1.0])
def test_without_epsilon_nobody_does_better_than_guessing(fpr: float) -> None:
    assert DpClaim(0.0, 0.0, "patient").most(fpr) == pytest.approx(fpr)


def test_both_lines_by_hand() -> None:
    claim = DpClaim(math.log(2), 0.01, "patient")
    assert claim.most(0.1) == pytest.approx(0.21)
    assert claim.most(0.9) == pytest.approx(1 - 0.09 / 2)
    assert DpClaim(5000.0, 0.0, "patient").most(0.5) == 1.0


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
def test_randomised_response_reaches_the_line(epsilon: float) -> None:
    truth = math.exp(epsilon) / (1 + math.exp(epsilon))
    assert DpClaim(epsilon, 0.0, "patient").most(1 - truth) == pytest.approx(truth)


@pytest.mark.parametrize(
    ("value", "low", "verdict"),
    [(0.02, 0.01, "within"), (0.05, 0.01, "above by chance?"), (0.05, 0.04, "above")],
)
def test_the_verdict_looks_at_the_interval(value: float, low: float, verdict: str) -> None:
    curve = np.array([0.0, 1.0])
    estimate = Estimate(value, low, 0.1)
    found = Detection(
        9, 100, Estimate(0.5, 0.4, 0.6), {0.01: estimate, 0.001: None}, 0.5, 0.0, curve, curve
    )
    rows = compare(DpClaim(math.log(3), 0.0, "patient"), found)
    assert rows == [{"fpr": 0.01, "tpr": value, "most_allowed": 0.03, "verdict": verdict}]


def test_a_claim_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="epsilon=-1"):
        DpClaim(-1.0, 0.0, "patient")
    with pytest.raises(ConfigError, match="delta=2"):
        DpClaim(1.0, 2.0, "patient")
