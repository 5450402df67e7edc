"""Labels from the gradient of the last layer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from primia_flwr.attacks.inversion.labels import as_labels, label_counts
from primia_flwr.errors import DataError


@given(st.integers(0, 2), st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_one_image_gives_its_label_away_whatever_the_model_says(
    label: int, logits: list[float]
) -> None:
    bias = torch.tensor([logits], requires_grad=True)
    functional.cross_entropy(bias, torch.tensor([label])).backward()
    assert bias.grad is not None
    counts = label_counts(bias.grad[0], torch.full((3,), 1 / 3), 1)
    assert as_labels(counts).tolist() == [label]


@given(st.lists(st.integers(0, 2), min_size=1, max_size=12))
def test_an_untrained_model_gives_the_counts_of_a_batch_away(labels: list[int]) -> None:
    # all logits alike: p = 1/3, and the gradient is 1/3 - counts / B, without an error
    probabilities = torch.full((3,), 1 / 3)
    counts = torch.bincount(torch.tensor(labels), minlength=3)
    gradient = probabilities - counts / len(labels)
    assert label_counts(gradient, probabilities, len(labels)) == counts.tolist()


def test_counts_add_up_and_the_largest_remainder_goes_up() -> None:
    # raw counts 4 (0.4, 0.35, 0.25) = 1.6, 1.4, 1.0
    gradient = torch.tensor([-0.4, -0.35, -0.25])
    assert label_counts(gradient, torch.zeros(3), 4) == [2, 1, 1]


def test_a_gradient_that_says_nothing_still_gives_as_many_labels() -> None:
    assert sum(label_counts(torch.ones(3), torch.zeros(3), 4)) == 4


def test_nan_is_refused() -> None:
    with pytest.raises(DataError, match="NaN or infinite"):
        label_counts(torch.tensor([float("nan"), 0.0]), torch.zeros(2), 1)


def test_labels_repeat_in_the_order_of_the_classes() -> None:
    assert as_labels([2, 0, 1]).tolist() == [0, 0, 2]
