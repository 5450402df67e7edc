import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, matthews_corrcoef

from primia_flwr.errors import DataError
from primia_flwr.tasks.classes.loss import ClassificationLoss
from primia_flwr.tasks.classification import TASK
from primia_flwr.tasks.task import Evaluation

# Probabilities 1/4 and 3/4 for the first image, 1/2 and 1/2 for the second.
LOGITS = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
LABELS = torch.tensor([0, 1])
FIRST, SECOND = math.log(4), math.log(2)


def test_plain_mean() -> None:
    assert float(ClassificationLoss()(LOGITS, LABELS)) == pytest.approx((FIRST + SECOND) / 2)


def test_weighted_mean_divides_by_the_weights() -> None:
    loss = ClassificationLoss(class_weights=[1.0, 3.0])(LOGITS, LABELS)
    assert float(loss) == pytest.approx((FIRST + 3 * SECOND) / 4)


def test_smoothing_by_hand() -> None:
    # targets (0.9, 0.1): 0.9 log 4 + 0.1 log(4/3)
    loss = ClassificationLoss(label_smoothing=0.2)(LOGITS[:1], LABELS[:1])
    assert float(loss) == pytest.approx(0.9 * math.log(4) + 0.1 * math.log(4 / 3))


def test_mixed_target_by_hand() -> None:
    # 0.5 log 4 + 0.5 * 3 log(4/3), over the mixture's weight 0.5 * 1 + 0.5 * 3
    loss = ClassificationLoss(class_weights=[1.0, 3.0])(LOGITS[:1], torch.tensor([[0.5, 0.5]]))
    assert float(loss) == pytest.approx((0.5 * math.log(4) + 1.5 * math.log(4 / 3)) / 2)


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 4.0]])
@given(seed=st.integers(0, 1000), smoothing=st.sampled_from([0.0, 0.1, 0.3]))
def test_one_hot_targets_are_hard_labels(
    weights: list[float] | None, seed: int, smoothing: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 3, generator=generator)
    labels = torch.randint(3, (6,), generator=generator)
    loss = ClassificationLoss(class_weights=weights, label_smoothing=smoothing)
    soft = torch.nn.functional.one_hot(labels, 3).float()
    torch.testing.assert_close(loss(logits, soft), loss(logits, labels))


def test_balanced_weights_by_hand() -> None:
    # 8 images, 2 classes: 8 / (2 * 6) and 8 / (2 * 2)
    assert TASK.label_weights([6, 2]) == pytest.approx((2 / 3, 2.0))
    assert TASK.label_weights([6, 0, 2]) == pytest.approx((2 / 3, 0.0, 2.0))


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=6).filter(any))
def test_balanced_weights_give_every_present_class_the_same_total(counts: list[int]) -> None:
    totals = [n * w for n, w in zip(counts, TASK.label_weights(counts), strict=True) if n]
    assert totals == pytest.approx([sum(counts) / len(totals)] * len(totals))


@pytest.mark.parametrize("counts", [[], [0, 0], [3, -1]])
def test_impossible_counts_are_refused(counts: list[int]) -> None:
    with pytest.raises(DataError, match="class counts"):
        TASK.label_weights(counts)


def figures_of(confusion: list[list[int]]) -> dict[str, float]:
    matrix = np.array(confusion, dtype=np.int64)
    return Evaluation(TASK, 0.0, int(matrix.sum()), {"confusion": matrix.ravel()}).figures()


def test_scores_by_hand() -> None:
    # TP 3, TN 4, FP 1, FN 2: MCC = (3*4 - 1*2) / sqrt(4*5*5*6) = 10 / sqrt(600)
    scores = figures_of([[4, 1], [2, 3]])
    assert scores["mcc"] == pytest.approx(10 / math.sqrt(600))
    assert scores["accuracy"] == pytest.approx(0.7)
    assert scores["balanced_accuracy"] == pytest.approx((4 / 5 + 3 / 5) / 2)


def test_perfect_inverse_and_constant_predictions() -> None:
    assert figures_of([[5, 0], [0, 3]])["mcc"] == pytest.approx(1.0)
    assert figures_of([[0, 5], [3, 0]])["mcc"] == pytest.approx(-1.0)
    assert figures_of([[5, 0], [3, 0]])["mcc"] == 0.0
    assert figures_of([[5, 3], [0, 0]])["mcc"] == 0.0


def test_a_class_without_images_does_not_count_for_balanced_accuracy() -> None:
    assert figures_of([[2, 0, 0], [1, 3, 0], [0, 0, 0]])["balanced_accuracy"] == pytest.approx(
        0.875
    )


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_scores_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    matrix = np.zeros((4, 4), dtype=np.int64)
    for true, predicted in pairs:
        matrix[true, predicted] += 1
    labels, predictions = zip(*pairs, strict=True)
    scores = figures_of(matrix.tolist())
    assert scores["mcc"] == pytest.approx(matthews_corrcoef(labels, predictions), abs=1e-12)
    present = [pair for pair in pairs if pair[1] in labels] or pairs
    if len(present) == len(pairs):  # scikit-learn warns about predictions of absent classes
        expected = balanced_accuracy_score(labels, predictions)
        assert scores["balanced_accuracy"] == pytest.approx(expected)
