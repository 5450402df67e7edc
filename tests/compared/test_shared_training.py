"""Training on shares takes the steps of training in the clear, within what fixed point explains."""

from dataclasses import asdict, replace
from itertools import pairwise
from json import dumps

import numpy as np
import pytest
import torch
from primia_bench.compared.shared_head import Head, Plan, train_plain

from tests.compared.head_tasks import Own, trains
from tests.inference.crypten_parties import Failed, together

UNIT = 2.0**-16
PLAN = Plan(images=(4, 4), features=3, classes=2, batch=8, passes=2, rate=0.125, momentum=0.5)
# Sixteenths, so that they are exact in fixed point; the first column tells the class, and its
# mean, a quarter, is not zero. No centred entry is above 1.
LABELS = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
FEATURES = torch.tensor(
    [
        [-12, 3, 5], [20, -2, -7], [-10, -5, 1], [18, 4, 2],
        [-12, 6, -3], [20, -6, 6], [-11, 1, -8], [19, -1, 4],
    ]
) / 16  # fmt: skip
LARGEST, ROWS = 1.0, 8


def halves(plan: Plan = PLAN) -> tuple[Own, Own]:
    return (plan, FEATURES[:4], LABELS[:4]), (PLAN, FEATURES[4:], LABELS[4:])


@pytest.fixture(scope="module")
def trained():
    return together((trains, trains), halves())


def error_of_sigmoid() -> float:
    """Bound what CrypTen's sigmoid is off, by its parts; an entry's truncation by two units.

    exp(-x) is (1 - x/512)^512 by nine squarings: an error of squaring j is multiplied by
    512/2^j times the power of what is left. 1/d, d = 1 + exp(-x) in (1, 2], is three steps of
    Newton from 3/4, each of which squares 1 - r d. Two products each, and one to choose the sign.
    """
    x = np.linspace(0, 16, 4001)
    e = np.exp(-x)
    rounding = sum(2.0 ** (9 - j) * e ** (1 - 2.0 ** (j - 9)) for j in range(10))
    of_exp = 2 * UNIT * rounding + x**2 / 1024 * e
    newton = np.abs(1 - 0.75 * (1 + e)) ** 8 / (1 + e)
    return float((of_exp / (1 + e) ** 2 + newton).max()) + (3 * 6 + 4) * UNIT


def bound_of_weight() -> float:
    """Bound what two steps' weights are off, step by step as in the module's docstring."""
    few = 4 * UNIT  # the truncations of one entry between two sigmoids
    of_sigmoid = error_of_sigmoid()
    first = ROWS * LARGEST * (of_sigmoid + few / 4) + (ROWS + 1) * few
    weight = PLAN.rate * first + few
    logit = (PLAN.features * LARGEST + 1) * weight + few
    second = ROWS * LARGEST * (of_sigmoid + logit / 4) + (ROWS + 1) * few
    return weight + PLAN.rate * (PLAN.momentum * first + second) + 2 * few


def test_the_bound_of_the_sigmoid_is_a_hundredth() -> None:
    # x = 0: 2 units (512 + 511) / 4 of exp, and (1/2)^8 / 2 of Newton
    at_zero = 2 * UNIT * 1023 / 4 + 2.0**-9
    assert at_zero <= error_of_sigmoid() < 0.0105


def test_two_steps_on_shares_are_two_steps_in_the_clear(trained) -> None:
    (head, _), _, _ = trained
    plain, bound = train_plain(PLAN, FEATURES, LABELS), bound_of_weight()
    assert (head.weights - plain.weights).abs().max() < bound
    mean = FEATURES.mean(0).abs().sum().item()
    assert (head.bias - plain.bias).abs().max() < bound * (1 + mean) + PLAN.features * 2 * UNIT
    assert plain.weights.abs().max() > 10 * bound  # other steps, or other labels, would be seen
    assert head.classes(FEATURES).tolist() == LABELS.tolist()


def test_the_first_step_by_hand() -> None:
    plan = replace(PLAN, passes=1)
    head = train_plain(plan, FEATURES, LABELS)
    # all logits are 0: class 0 gets -rate * sum of x (1/2 - y) over rows
    # = 1/8 * 1/2 * ((-12 - 10 - 12 - 11) - (20 + 18 + 20 + 19)) / 16 for the first feature
    assert head.weights[0].tolist() == [-122 / 256, 122 / 256]
    # four rows of each class: the bias stays at 0, less mean times weights, of which only
    # the first column has a mean: 32 / 16 / 8 = 1/4
    means = FEATURES.mean(0)
    assert means.tolist() == [0.25, 0, 0]
    assert head.bias.tolist() == pytest.approx([122 / 1024, -122 / 1024])


def test_both_learn_the_same_head_and_the_dealer_had_something_to_deal(trained) -> None:
    (first, _), (second, _), dealt = trained
    assert torch.equal(first.weights, second.weights)
    assert torch.equal(first.bias, second.bias)
    assert dealt >= 2 * 3  # a step: logits, gradient of weights, and the sigmoid's many


def test_of_all_that_is_sent_and_opened_only_the_head_is_clear(trained) -> None:
    (head, sent), (_, answered), _ = trained
    opened = sum(np.frombuffer(one, "<i8") for one in (sent, answered)).tobytes()
    weights = (head.weights / UNIT).long().flatten().numpy()
    assert found(weights, opened)  # opened at the end, so this looks in the right place
    assert len(opened) > FEATURES.nelement() * 8
    for rows in (FEATURES, FEATURES - FEATURES.mean(0)):
        fixed = (rows / UNIT).long().numpy()
        for numbers in (*fixed, *fixed.T.copy()):
            assert not any(found(numbers, seen) for seen in (sent, answered, opened))


def found(numbers: np.ndarray, sent: bytes) -> bool:
    """Say whether two numbers stand somewhere, one behind the other."""
    return any(np.array(pair).astype("<i8").tobytes() in sent for pair in pairwise(numbers))


def test_a_row_would_be_found() -> None:
    row = np.array([5, 7, 9])
    assert found(row, b"\0" * 5 + np.array([7, 9]).astype("<i8").tobytes())
    assert not found(row, np.array([9, 7]).astype("<i8").tobytes())


def test_parties_with_different_plans_do_not_begin() -> None:
    first, second, _ = together((trains, trains), halves(replace(PLAN, passes=3)))
    for failed in (first, second):
        assert isinstance(failed, Failed)
    assert "another computation in mind" in first.message + second.message


def test_a_plan_takes_each_row_once_in_each_pass() -> None:
    plan = Plan((4, 6), features=1, classes=2, batch=4, passes=2)
    batches = list(plan.batches())
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2]
    assert plan.steps == 6
    for rows in (batches[:3], batches[3:]):
        assert sorted(torch.cat(rows).tolist()) == list(range(10))
    assert Plan.from_json(dumps(asdict(plan))) == plan
    assert replace(plan, seed=1).agreement != plan.agreement


def test_a_head_names_the_class_with_the_largest_logit() -> None:
    head = Head(torch.tensor([[1.0, -1.0]]), torch.tensor([0.0, 3.0]))
    assert head.classes(torch.tensor([[1.0], [2.0]])).tolist() == [1, 0]  # 1 < 2, 2 > 1
