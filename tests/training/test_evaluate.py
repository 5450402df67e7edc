import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, matthews_corrcoef

from primia_flwr.errors import DataError
from primia_flwr.tasks.task import Evaluation
from primia_flwr.training.evaluate import evaluate, predict
from tests.training.tiny_training import (
    HALF,
    IDENTITY,
    OnePixel,
    one_pixel,
    random_images,
    small_net,
)

CPU = torch.device("cpu")


def _of(confusion: list[list[int]]) -> Evaluation:
    matrix = np.array(confusion, dtype=np.int64)
    return Evaluation(0.0, int(matrix.sum()), matrix)


def test_scores_by_hand() -> None:
    # TP 3, TN 4, FP 1, FN 2: MCC = (3*4 - 1*2) / sqrt(4*5*5*6) = 10 / sqrt(600)
    scores = _of([[4, 1], [2, 3]])
    assert scores.mcc == pytest.approx(10 / math.sqrt(600))
    assert scores.accuracy == pytest.approx(0.7)
    assert scores.balanced_accuracy == pytest.approx((4 / 5 + 3 / 5) / 2)


def test_perfect_inverse_and_constant_predictions() -> None:
    assert _of([[5, 0], [0, 3]]).mcc == pytest.approx(1.0)
    assert _of([[0, 5], [3, 0]]).mcc == pytest.approx(-1.0)
    assert _of([[5, 0], [3, 0]]).mcc == 0.0
    assert _of([[5, 3], [0, 0]]).mcc == 0.0


def test_a_class_without_images_does_not_count_for_balanced_accuracy() -> None:
    assert _of([[2, 0, 0], [1, 3, 0], [0, 0, 0]]).balanced_accuracy == pytest.approx(0.875)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_scores_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    matrix = np.zeros((4, 4), dtype=np.int64)
    for true, predicted in pairs:
        matrix[true, predicted] += 1
    labels, predictions = zip(*pairs, strict=True)
    scores = Evaluation(0.0, len(pairs), matrix)
    assert scores.mcc == pytest.approx(matthews_corrcoef(labels, predictions), abs=1e-12)
    present = [pair for pair in pairs if pair[1] in labels] or pairs
    if len(present) == len(pairs):  # scikit-learn warns about predictions of absent classes
        expected = balanced_accuracy_score(labels, predictions)
        assert scores.balanced_accuracy == pytest.approx(expected)


def test_probabilities_and_loss_by_hand() -> None:
    # logits (0, x - 2): for x = 2 both 1/2; for x = 3 the second e / (1 + e)
    model = OnePixel(weight=1.0, bias=-2.0)
    data = one_pixel([2, 3, 0], [0, 1, 1])
    probabilities = predict(model, data, normalisation=IDENTITY, batch_size=2, device=CPU)
    second = [0.5, math.e / (1 + math.e), 1 / (1 + math.e**2)]
    assert probabilities.dtype == np.float64
    assert probabilities[:, 1] == pytest.approx(second, abs=1e-6)
    assert probabilities.sum(axis=1) == pytest.approx([1.0] * 3)
    scores = evaluate(model, data, normalisation=IDENTITY, batch_size=2, device=CPU)
    expected = -(math.log(0.5) + math.log(second[1]) + math.log(second[2]))
    assert scores.loss_sum == pytest.approx(expected, abs=1e-5)
    assert scores.loss == pytest.approx(expected / 3, abs=1e-5)
    assert scores.confusion.tolist() == [[1, 0], [1, 1]]


def test_sites_add_up_to_the_whole() -> None:
    model, data = small_net(), random_images(21)
    options = {"normalisation": HALF, "batch_size": 4, "device": CPU}
    whole = evaluate(model, data, **options)  # type: ignore[arg-type]
    parts = [evaluate(model, data.select(s), **options) for s in (range(9), range(9, 21))]  # type: ignore[arg-type]
    both = parts[0] + parts[1]
    assert both.num_examples == 21
    assert both.loss_sum == pytest.approx(whole.loss_sum)
    assert (both.confusion == whole.confusion).all()


def test_evaluation_survives_json() -> None:
    scores = Evaluation(1.25, 10, np.array([[4, 1], [2, 3]]))
    back = Evaluation.from_dict(scores.to_dict())
    assert (back.loss_sum, back.num_examples) == (1.25, 10)
    assert (back.confusion == scores.confusion).all()


def test_model_keeps_its_mode_and_its_running_statistics() -> None:
    model = small_net().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, random_images(6), normalisation=HALF, batch_size=4, device=CPU)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_bf16_is_close_to_fp32() -> None:
    model, data = small_net(), random_images(8)
    exact = predict(model, data, normalisation=HALF, batch_size=8, device=CPU)
    rough = predict(model, data, normalisation=HALF, batch_size=8, device=CPU, precision="bf16")
    assert rough == pytest.approx(exact, abs=0.05)
    assert (rough != exact).any()


def test_no_images_is_an_error() -> None:
    data = random_images(4).select([])
    with pytest.raises(DataError, match="no images to evaluate"):
        evaluate(small_net(), data, normalisation=HALF, batch_size=4, device=CPU)
