"""Figures that can be checked with pencil and paper, and properties that hold for all data."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import DataError
from primia_flwr.tasks.classes.scores import Scores, roc_curve, score


def test_four_images_of_two_classes_by_hand() -> None:
    # predicted: a, b, b, b -> one of two a right, both b right
    labels = [0, 0, 1, 1]
    probabilities = [[0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.1, 0.9]]
    scores = score(labels, probabilities, ("a", "b"))
    assert scores.n == 4
    assert scores.confusion == [[1, 1], [0, 2]]
    assert scores.accuracy == 3 / 4
    assert scores.balanced_accuracy == (1 / 2 + 1) / 2
    # MCC = (TP*TN - FP*FN) / sqrt(...) = (2*1 - 1*0) / sqrt(3*2*2*1)
    assert scores.mcc == pytest.approx(2 / math.sqrt(12))
    assert scores.per_class["a"].sensitivity == 0.5
    assert scores.per_class["a"].specificity == 1.0
    assert scores.per_class["b"].sensitivity == 1.0
    assert scores.per_class["b"].specificity == 0.5
    assert scores.roc_auc == 1.0, "every b has a higher p(b) than every a"
    expected = -(math.log(0.8) + math.log(0.4) + math.log(0.7) + math.log(0.9)) / 4
    assert scores.loss == pytest.approx(expected)
    assert scores.notes == ()


def test_auc_counts_ordered_pairs_and_is_weighted_by_the_classes_images() -> None:
    labels = [0, 0, 0, 1, 2]
    probabilities = [
        [0.6, 0.3, 0.1],
        [0.5, 0.2, 0.3],
        [0.2, 0.7, 0.1],
        [0.3, 0.5, 0.2],
        [0.1, 0.1, 0.8],
    ]
    scores = score(labels, probabilities, ("a", "b", "c"))
    # a vs rest: p(a) of a {.6 .5 .2}, of the rest {.3 .1}: 5 of 6 pairs in order
    assert scores.per_class["a"].roc_auc == pytest.approx(5 / 6)
    # b vs rest: .5 against {.3 .2 .7 .1}: 3 of 4
    assert scores.per_class["b"].roc_auc == pytest.approx(3 / 4)
    assert scores.per_class["c"].roc_auc == 1.0
    assert scores.roc_auc == pytest.approx((3 * 5 / 6 + 1 * 3 / 4 + 1 * 1.0) / 5)


def test_an_absent_class_has_no_auc_says_why_and_does_not_count() -> None:
    labels = [0, 0, 1, 1]
    probabilities = [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]]
    scores = score(labels, probabilities, ("a", "b", "c"))
    absent = scores.per_class["c"]
    assert (absent.n, absent.sensitivity, absent.roc_auc) == (0, None, None)
    assert absent.specificity == 3 / 4
    assert scores.notes == ("c: no image of this class",)
    assert scores.balanced_accuracy == (0.5 + 1.0) / 2, "the mean over the classes present"
    # p(a): {.8 .1} against {.2 .1}: 2 + 0.5 of 4 pairs; p(b): {.7 .8} against {.1 .1}: all
    assert scores.roc_auc == pytest.approx((2 * 2.5 / 4 + 2 * 1.0) / 4)


def test_one_class_alone_has_no_auc_at_all() -> None:
    scores = score([1, 1], [[0.4, 0.6], [0.7, 0.3]], ("a", "b"))
    assert scores.roc_auc is None
    assert scores.per_class["b"].roc_auc is None
    assert scores.per_class["b"].specificity is None
    assert scores.notes == ("a: no image of this class", "b: no image of another class")
    assert scores.accuracy == 0.5
    assert scores.mcc == 0.0


def test_a_sure_and_wrong_answer_has_a_finite_loss() -> None:
    assert score([0], [[0.0, 1.0]], ("a", "b")).loss == pytest.approx(-math.log(1e-12))


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([], np.zeros((0, 2)), "at least one image"),
        ([0, 1], [[0.5, 0.5]], r"shape \(1, 2\); expected \(2, 2\)"),
        ([0], [[0.2, 0.3, 0.5]], r"shape \(1, 3\); expected \(1, 2\)"),
        ([2], [[0.5, 0.5]], "labels range from 2 to 2; expected 0 to 1, the indices of a, b"),
        ([-1], [[0.5, 0.5]], "labels range from -1"),
        ([0, 1], [[0.5, 0.5], [math.nan, 0.5]], r"1 of 2 images \(first: image 1\)"),
        ([0], [[0.9, 0.9]], "sum to 1"),
        ([0], [[1.5, -0.5]], "at least 0"),
    ],
)
def test_what_is_no_prediction_is_refused(
    labels: object, probabilities: object, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        score(labels, probabilities, ("a", "b"))  # type: ignore[arg-type]


def test_scores_survive_json_and_broken_ones_are_refused() -> None:
    scores = score([0, 0], [[0.9, 0.1], [0.8, 0.2]], ("a", "b"))
    values = json.loads(json.dumps(scores.to_dict()))
    assert Scores.from_dict(values) == scores
    del values["mcc"]
    with pytest.raises(DataError, match="mcc"):
        Scores.from_dict(values)


def test_the_roc_curve_of_three_images_by_hand() -> None:
    labels = np.array([0, 1, 0])
    probabilities = np.array([[0.1, 0.9], [0.4, 0.6], [0.8, 0.2]])
    fpr, tpr = roc_curve(labels, probabilities, 1)
    points = set(zip(fpr.tolist(), tpr.tolist(), strict=True))
    assert {(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (1.0, 1.0)} == points


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_figures_stay_in_range_and_ignore_the_order_of_images(c: int, n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, c, n)
    probabilities = generator.dirichlet(np.ones(c), n)
    classes = [f"class {k}" for k in range(c)]
    scores = score(labels, probabilities, classes)
    assert 0 <= scores.accuracy <= 1
    assert 0 <= scores.balanced_accuracy <= 1
    assert -1 <= scores.mcc <= 1
    assert scores.roc_auc is None or 0 <= scores.roc_auc <= 1
    assert sum(map(sum, scores.confusion)) == n == sum(s.n for s in scores.per_class.values())
    assert scores.accuracy == pytest.approx(
        sum(s.n * (s.sensitivity or 0) for s in scores.per_class.values()) / n
    )
    order = generator.permutation(n)
    again = score(labels[order], probabilities[order], classes)
    assert again.confusion == scores.confusion
    assert again.mcc == pytest.approx(scores.mcc)
    assert again.roc_auc == pytest.approx(scores.roc_auc)
