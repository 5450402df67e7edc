import math

import numpy as np
import pytest
import torch

from primia_flwr.errors import DataError
from primia_flwr.training.evaluate import _layout, evaluate, predict
from tests.training.tiny_training import (
    HALF,
    IDENTITY,
    OnePixel,
    one_pixel,
    random_images,
    small_net,
)

CPU = torch.device("cpu")


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
    assert scores.figures()["loss"] == pytest.approx(expected / 3, abs=1e-5)
    assert scores.counts["confusion"].tolist() == [1, 0, 1, 1]


def test_sites_add_up_to_the_whole() -> None:
    model, data = small_net(), random_images(21)
    options = {"normalisation": HALF, "batch_size": 4, "device": CPU}
    whole = evaluate(model, data, **options)  # type: ignore[arg-type]
    parts = [evaluate(model, data.select(s), **options) for s in (range(9), range(9, 21))]  # type: ignore[arg-type]
    both = parts[0] + parts[1]
    assert both.num_examples == 21
    assert both.loss_sum == pytest.approx(whole.loss_sum)
    assert (both.counts["confusion"] == whole.counts["confusion"]).all()


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


def test_the_layout_is_that_of_the_models_kernels() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    assert _layout(model) is torch.contiguous_format
    assert _layout(model.to(memory_format=torch.channels_last)) is torch.channels_last
