import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import DataError
from primia_flwr.training.loss import TrainingLoss, balanced_weights

# Probabilities 1/4 and 3/4 for the first image, 1/2 and 1/2 for the second.
LOGITS = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
LABELS = torch.tensor([0, 1])
FIRST, SECOND = math.log(4), math.log(2)


def test_plain_mean() -> None:
    assert float(TrainingLoss()(LOGITS, LABELS)) == pytest.approx((FIRST + SECOND) / 2)


def test_weighted_mean_divides_by_the_weights() -> None:
    loss = TrainingLoss(class_weights=[1.0, 3.0])(LOGITS, LABELS)
    assert float(loss) == pytest.approx((FIRST + 3 * SECOND) / 4)


def test_smoothing_by_hand() -> None:
    # targets (0.9, 0.1): 0.9 log 4 + 0.1 log(4/3)
    loss = TrainingLoss(label_smoothing=0.2)(LOGITS[:1], LABELS[:1])
    assert float(loss) == pytest.approx(0.9 * math.log(4) + 0.1 * math.log(4 / 3))


def test_mixed_target_by_hand() -> None:
    # 0.5 log 4 + 0.5 * 3 log(4/3), over the mixture's weight 0.5 * 1 + 0.5 * 3
    loss = TrainingLoss(class_weights=[1.0, 3.0])(LOGITS[:1], torch.tensor([[0.5, 0.5]]))
    assert float(loss) == pytest.approx((0.5 * math.log(4) + 1.5 * math.log(4 / 3)) / 2)


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 4.0]])
@given(seed=st.integers(0, 1000), smoothing=st.sampled_from([0.0, 0.1, 0.3]))
def test_one_hot_targets_are_hard_labels(
    weights: list[float] | None, seed: int, smoothing: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 3, generator=generator)
    labels = torch.randint(3, (6,), generator=generator)
    loss = TrainingLoss(class_weights=weights, label_smoothing=smoothing)
    soft = torch.nn.functional.one_hot(labels, 3).float()
    torch.testing.assert_close(loss(logits, soft), loss(logits, labels))


def test_balanced_weights_by_hand() -> None:
    # 8 images, 2 classes: 8 / (2 * 6) and 8 / (2 * 2)
    assert balanced_weights([6, 2]) == pytest.approx((2 / 3, 2.0))
    assert balanced_weights([6, 0, 2]) == pytest.approx((2 / 3, 0.0, 2.0))


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=6).filter(any))
def test_balanced_weights_give_every_present_class_the_same_total(counts: list[int]) -> None:
    totals = [n * w for n, w in zip(counts, balanced_weights(counts), strict=True) if n]
    assert totals == pytest.approx([sum(counts) / len(totals)] * len(totals))


@pytest.mark.parametrize("counts", [[], [0, 0], [3, -1]])
def test_impossible_counts_are_refused(counts: list[int]) -> None:
    with pytest.raises(DataError, match="class counts"):
        balanced_weights(counts)
