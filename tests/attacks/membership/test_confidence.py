"""Confidences and losses against numbers by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.attacks.membership.confidence import log_likelihood, logit_confidence
from primia_flwr.errors import DataError


def test_logit_and_likelihood_by_hand() -> None:
    p = np.array([[0.9, 0.1, 0.0], [0.25, 0.5, 0.25], [0.2, 0.2, 0.6]])
    labels = np.array([0, 1, 0])
    assert logit_confidence(p, labels) == pytest.approx([math.log(9), 0.0, math.log(0.25)])
    assert log_likelihood(p, labels) == pytest.approx([math.log(0.9), math.log(0.5), math.log(0.2)])


def test_a_probability_that_rounds_to_one_keeps_its_digits() -> None:
    p = np.array([[1.0, 1e-20], [1.0, 1e-30], [1.0, 0.0]])
    found = logit_confidence(p, np.zeros(3, np.int64))
    assert found[:2] == pytest.approx([20 * math.log(10), 30 * math.log(10)])
    assert np.isfinite(found).all()
    assert found[0] < found[1] < found[2]


@given(st.floats(1e-12, 1 - 1e-12))
def test_of_two_classes_one_is_as_sure_as_the_other_is_not(p: float) -> None:
    both = np.array([[p, 1 - p], [p, 1 - p]])
    found = logit_confidence(both, np.array([0, 1]))
    assert found[0] == pytest.approx(-found[1], abs=1e-9)


@pytest.mark.parametrize(
    ("probabilities", "labels"),
    [
        ([[0.5, 0.5]], [2]),
        ([[0.5, 0.5]], [-1]),
        ([[0.5, 0.5]], [0, 1]),
        ([0.5, 0.5], [0, 1]),
        ([[math.nan, 0.5]], [0]),
    ],
)
def test_what_is_no_answer_is_refused(probabilities: object, labels: list[int]) -> None:
    with pytest.raises(DataError, match="expected"):
        logit_confidence(np.array(probabilities), np.array(labels))
