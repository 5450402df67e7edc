"""Gradients of candidates, the distances between them, and what running statistics reveal."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from primia_flwr.attacks.inversion.gradients import (
    GradientOf,
    cosine_distance,
    layer_distances,
    revealed_statistics,
    statistics_distance,
    total_variation,
)
from primia_flwr.errors import DataError


def test_the_cosine_distance_does_not_see_the_scale() -> None:
    a = [torch.tensor([3.0, 0.0]), torch.tensor([4.0])]
    assert float(cosine_distance(a, [10 * t for t in a])) == pytest.approx(0, abs=1e-6)
    assert float(cosine_distance(a, [-t for t in a])) == pytest.approx(2)
    # <(3,0,4), (0,1,1)> = 4, norms 5 and sqrt(2)
    b = [torch.tensor([0.0, 1.0]), torch.tensor([1.0])]
    assert float(cosine_distance(a, b)) == pytest.approx(1 - 4 / (5 * 2**0.5))


def test_by_layers_a_large_gradient_does_not_outweigh_a_small_one() -> None:
    like, unlike = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    bias = torch.ones(2)  # a vector: left out
    found, observed = [1000 * like, like, bias], [like, unlike, -bias]
    assert layer_distances(found, observed).tolist() == pytest.approx([0, 1])
    # together: <a, b> = 1000 + 0 - 2, norms sqrt(1000^2 + 3) and 2
    assert float(cosine_distance(found, observed)) == pytest.approx(1 - 998 / 2000, abs=1e-4)


def test_total_variation_is_the_mean_step_down_plus_across() -> None:
    image = torch.tensor([[[[0.0, 1.0], [4.0, 2.0]]]])
    # down: |4|, |1| -> 2.5; across: |1|, |-2| -> 1.5
    assert float(total_variation(image)) == 4.0
    assert float(total_variation(torch.ones(2, 1, 5, 5))) == 0


def test_the_gradient_is_that_of_the_cross_entropy() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    weight, bias = GradientOf(model, ["1.weight", "1.bias"])(
        torch.tensor([[[[2.0, 4.0]]]]), torch.tensor([0])
    )
    # p = (1/2, 1/2), so p - y = (-1/2, 1/2), and the weight's gradient is its outer product
    assert bias.tolist() == [-0.5, 0.5]
    assert weight.tolist() == [[-1.0, -2.0], [1.0, 2.0]]


def test_the_model_that_is_given_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    GradientOf(model, ["0.weight"])(torch.randn(3, 1, 2, 2), torch.zeros(3, dtype=torch.long))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(DataError, match="gradient of 'x', which is no parameter"):
        GradientOf(nn.Linear(2, 2), ["x"])


@pytest.mark.parametrize("steps", [1, 3])
def test_running_statistics_reveal_the_batch(steps: int) -> None:
    model = nn.Sequential(nn.BatchNorm2d(2)).train()
    before = {name: value.clone().float() for name, value in model.state_dict().items()}
    batch = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0)) * 2 + 1
    for _ in range(steps):
        model(batch)
    after = {name: value.clone().float() for name, value in model.state_dict().items()}
    model.load_state_dict(before)
    change = {name: after[name] - before[name] for name in before}
    ((mean, variance),) = revealed_statistics(model, change, steps=steps)
    torch.testing.assert_close(mean, batch.mean(dim=(0, 2, 3)), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(variance, batch.var(dim=(0, 2, 3)), atol=1e-4, rtol=1e-4)


def test_the_batch_that_was_trained_on_has_no_distance_to_its_statistics() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 2))
    gradient_of = GradientOf(model, ["2.weight"])
    watch = gradient_of.watch()
    images, labels = torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]]), torch.tensor([1])
    gradient_of(images, labels)
    variance = torch.tensor([20 / 3])  # of 0, 2, 4, 6 around 3
    known = [(torch.tensor([3.0]), variance)]
    assert float(statistics_distance(watch, known)) == pytest.approx(0, abs=1e-9)
    # a mean that is off by 1 costs 1 / variance
    off = [(torch.tensor([4.0]), variance)]
    assert float(statistics_distance(watch, off)) == pytest.approx(3 / 20)
    watch.close()


def test_a_model_without_batch_norm_reveals_nothing() -> None:
    assert revealed_statistics(nn.Sequential(nn.GroupNorm(1, 2)), {}, steps=1) == []
