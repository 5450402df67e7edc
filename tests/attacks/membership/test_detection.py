"""ROC figures against counts by hand, and controls whose answer is known."""

import math

import numpy as np
import pytest

from primia_flwr.attacks.membership.detection import by_patient, detect, rate_at
from primia_flwr.errors import DataError


def names(count: int) -> list[str]:
    return [f"p{i}" for i in range(count)]


def test_rates_at_few_false_alarms_by_hand() -> None:
    # 100 non-members score 0 to 99; at 1 % one false alarm (the 99) is allowed
    scores = np.array([98.5, 97.5, 200.0, 50.5, *range(100)], np.float64)
    member = np.arange(104) < 4
    found = detect(scores, member, names(104), seed=0)
    estimate = found.tpr_at[0.01]
    assert estimate is not None
    assert estimate.value == 2 / 4
    assert found.tpr_at[0.001] is None, "that takes a thousand non-members"
    # non-members below: 99, 98, 100, 51
    assert found.auc.value == pytest.approx((99 + 98 + 100 + 51) / 400)
    # best threshold 50.5: all members, 49 of 100 non-members; 97.5: 3 of 4, 2 of 100
    assert found.advantage == pytest.approx(3 / 4 - 2 / 100)
    assert found.balanced_accuracy == pytest.approx((1 + 0.73) / 2)
    assert found.auc.low <= found.auc.value <= found.auc.high


def test_a_rate_is_that_of_a_threshold_and_not_in_between() -> None:
    fpr, tpr = np.array([0.0, 0.02, 1.0]), np.array([0.1, 0.9, 1.0])
    assert rate_at(fpr, tpr, 0.01) == 0.1
    assert rate_at(fpr, tpr, 0.02) == 0.9


def test_scores_that_know_nothing_are_at_one_half() -> None:
    rng = np.random.default_rng(3)
    found = detect(rng.normal(size=4000), rng.random(4000) < 0.5, names(4000), seed=1)
    assert found.auc.value == pytest.approx(0.5, abs=0.03)
    assert found.auc.low < 0.5 < found.auc.high
    for rate, estimate in found.tpr_at.items():
        assert estimate is not None
        assert estimate.value == pytest.approx(rate, abs=0.01)


def test_a_planted_leak_is_found_whole() -> None:
    rng = np.random.default_rng(3)
    member = rng.random(3000) < 0.5
    found = detect(rng.normal(size=3000) + 10 * member, member, names(3000), seed=1)
    assert found.auc.value > 0.999
    assert all(e is not None and e.value > 0.99 for e in found.tpr_at.values())


def test_an_interval_resamples_patients_not_images() -> None:
    rng = np.random.default_rng(5)
    one = rng.normal(size=300)
    member = np.arange(300) < 150
    single = detect(one, member, names(300), seed=2).auc
    copies = detect(np.repeat(one, 4), np.repeat(member, 4), [*np.repeat(names(300), 4)], seed=2)
    assert copies.auc.value == pytest.approx(single.value)
    assert copies.auc.high - copies.auc.low == pytest.approx(single.high - single.low, rel=1e-6)
    # normal approximation: 1.96 * 2 * sqrt(301 / (12 * 150 * 150))
    assert single.high - single.low == pytest.approx(0.131, rel=0.15)


def test_one_patient_a_side_has_no_interval() -> None:
    found = detect(np.array([1.0, 0.0]), np.array([True, False]), names(2), seed=0)
    assert found.auc.value == 1.0
    assert math.isnan(found.auc.low)
    assert found.to_dict()["auc"] == {"value": 1.0, "low": None, "high": None}


def test_scores_of_a_patient_are_put_together() -> None:
    scores = np.array([1.0, 2.0, 3.0, 10.0])
    member = np.array([True, True, True, False])
    patients = ["b", "b", "b", "a"]
    for exponent, expected in ((0.0, 6.0), (0.5, 6 / math.sqrt(3)), (1.0, 2.0)):
        whole, truth, order = by_patient(scores, member, patients, exponent=exponent)
        assert order == ["a", "b"]
        assert truth.tolist() == [False, True]
        assert whole == pytest.approx([10.0, expected])


def test_one_side_alone_and_no_number_are_refused() -> None:
    with pytest.raises(DataError, match=r"2 member\(s\) and 0 non-member\(s\)"):
        detect(np.zeros(2), np.ones(2, np.bool_), names(2), seed=0)
    with pytest.raises(DataError, match="0 member"):
        detect(np.zeros(2), np.zeros(2, np.bool_), names(2), seed=0)
    with pytest.raises(DataError, match="NaN"):
        detect(np.array([math.nan, 0.0]), np.array([True, False]), names(2), seed=0)
