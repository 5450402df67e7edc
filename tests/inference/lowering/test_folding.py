"""What the parties compute on is the trained network, in PyTorch's own layers and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError
from primia_flwr.inference.crypten.program import fold
from primia_flwr.inference.lowering.bounds import bounds_of, check_bounds, measure
from primia_flwr.inference.lowering.folding import folded, with_plain_kernels
from primia_flwr.inference.lowering.lowering import lower
from primia_flwr.inference.plan import Add, Relu, num_compared
from primia_flwr.models.layers.scale_shift import ScaleShift
from primia_flwr.models.layers.weight_standardisation import WSConv2d
from primia_flwr.models.registry import build_model
from tests.inference.memory_link import classify

NAMES = ("resnet18", "resnet34", "resnet50", "vgg16", "simpleconv")


def trained(name: str, *, pool: str = "avg", channels: int = 1) -> nn.Module:
    """Return a network without normalisation whose scales and shifts were moved."""
    cfg = ModelConfig(name=name, norm="none", pool=pool)
    model = build_model(cfg, outputs=3, channels=channels, seed=0)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, ScaleShift):
                layer.weight.uniform_(0.6, 1.4, generator=generator)
                layer.bias.uniform_(-0.3, 0.3, generator=generator)
    return model.eval()


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_is_convolution_and_computes_the_same(name: str) -> None:
    model, images = trained(name, channels=3), noise(2, 3, 64, 64)
    graph = folded(model)
    kinds = {
        type(m) for m in graph.modules() if next(m.parameters(recurse=False), None) is not None
    }
    assert kinds == {nn.Conv2d, nn.Linear}
    with torch.inference_mode():
        expected, found = model(images), graph(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_model_stays_as_it_was() -> None:
    model = trained("simpleconv").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded(model)
    assert model.training
    assert {type(m) for m in model.modules()} >= {WSConv2d, ScaleShift}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_scale_and_shift_by_hand() -> None:
    # Kernel (1, 3) standardised is (-1, 1) but for eps, times 3; then 2 y + 5.
    layer = WSConv2d(2, 1, 1, bias=False)
    layer.kernel_scale = 3.0
    net = nn.Sequential(layer, ScaleShift(1)).eval()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 3.0]).view(1, 2, 1, 1))
        net[1].weight.fill_(2.0)  # type: ignore[operator, union-attr]
        net[1].bias.fill_(5.0)  # type: ignore[operator, union-attr]
    (weights,) = lower(net, (1, 2, 2, 2)).weights
    assert (weights.weight.flatten() - torch.tensor([-6, 6]) * 2**16).abs().max() <= 1
    assert weights.bias.tolist() == [5 * 2 ** (16 + 13)]


def test_a_scale_and_shift_without_a_convolution_before_it_becomes_one() -> None:
    scaled, images = ScaleShift(2), torch.tensor([[[[1.0]], [[-2.0]]], [[[3.0]], [[0.5]]]])
    with torch.no_grad():
        scaled.weight.copy_(torch.tensor([2.0, -1.0]))
        scaled.bias.copy_(torch.tensor([0.5, 0.25]))
        found = folded(nn.Sequential(nn.ReLU(), scaled))(images)
    # 2 relu(x) + 0.5 in the first channel, 0.25 - relu(x) in the second
    assert found.flatten(1).tolist() == [[2.5, 0.25], [6.5, -0.25]]
    assert len(lower(nn.Sequential(nn.ReLU(), scaled), (1, 2, 1, 1)).weights) == 1


def test_an_average_pool_behind_a_convolution_becomes_one() -> None:
    kernel = nn.Conv2d(1, 1, kernel_size=1, bias=False)
    nn.init.constant_(kernel.weight, 2.0)
    images = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    found = folded(nn.Sequential(kernel, nn.AvgPool2d(2)))(images)
    assert found.tolist() == [[[[6.0]]]]  # twice the mean of 3
    with pytest.raises(ConfigError, match="has no encrypted form"):
        lower(nn.Sequential(kernel, nn.AvgPool2d(2, padding=1)), (1, 1, 2, 2))


@pytest.mark.parametrize(
    ("norm", "layer"), [("group", "GroupNorm"), ("layer", "LayerNorm"), ("instance", "Instance")]
)
def test_a_norm_over_the_image_is_refused_with_the_remedy(norm: str, layer: str) -> None:
    layers = {
        "group": nn.GroupNorm(1, 2), "layer": nn.LayerNorm(2), "instance": nn.InstanceNorm2d(2)
    }  # fmt: skip
    for computed in (lambda net: lower(net, (1, 2, 2, 2)), fold):
        with pytest.raises(ConfigError, match=rf"{layer}.*model\.norm=none.*dp_sgd"):
            computed(nn.Sequential(layers[norm]))  # type: ignore[no-untyped-call]


def test_plain_kernels_keep_every_geometry() -> None:
    layer = WSConv2d(4, 6, (3, 1), stride=2, padding=(1, 0), dilation=(2, 1), groups=2)
    layer.kernel_scale = 0.25
    plain = with_plain_kernels(nn.Sequential(layer))
    assert type(plain[0]) is nn.Conv2d  # type: ignore[index]
    images = noise(2, 4, 9, 9)
    with torch.no_grad():
        torch.testing.assert_close(plain(images), layer(images))


def test_it_costs_as_many_comparisons_as_batch_norm() -> None:
    """17 rectifiers and the stem's pooling, of the same sizes, and the same delays."""
    plain = lower(build_model(ModelConfig(), outputs=3, channels=1, seed=0), (1, 1, 64, 64))
    free = lower(trained("resnet18"), (1, 1, 64, 64))
    assert free.plan.flights == plain.plan.flights == 44
    compared = [
        sorted(num_compared(s) for s in lowered.plan.comparisons if isinstance(s, Relu))
        for lowered in (plain, free)
    ]
    assert compared[0] == compared[1]
    # One shortcut more than the three, which reads what the block's first convolution reads.
    assert len(free.plan.linears) == len(plain.plan.linears) + 1
    assert len(free.plan.openings) == len(plain.plan.openings) == 18
    assert sum(isinstance(step, Add) for step in free.plan.steps) == 8


@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize("name", NAMES)
def test_every_model_has_a_plan_that_does_not_depend_on_the_weights(name: str, pool: str) -> None:
    """The data owner makes it from random weights."""
    cfg = ModelConfig(name=name, norm="none", pool=pool)
    other = build_model(cfg, outputs=3, channels=1, seed=9)
    shape = (1, 1, 64, 64)
    assert lower(trained(name, pool=pool), shape).plan.digest == lower(other, shape).plan.digest
    fold(trained(name, pool=pool))


@pytest.mark.parametrize(("name", "size", "batch"), [("simpleconv", 32, 2), ("resnet18", 32, 1)])
def test_scores_are_those_of_the_plain_model(name: str, size: int, batch: int) -> None:
    model, images = trained(name), noise(batch, 1, size, size)
    scores, *_ = classify(lower(model, (batch, 1, size, size)), images)
    with torch.inference_mode():
        plain = model(images)
    assert (scores - plain).abs().max() < 0.02
    assert scores.argmax(dim=1).tolist() == plain.argmax(dim=1).tolist()


def test_magnitudes_are_measured_and_fit_the_ring() -> None:
    model = trained("resnet18")
    largest = measure(model, [noise(4, 1, 64, 64)])
    lowered = lower(model, (1, 1, 64, 64))
    assert len(largest) == 21
    assert max(largest) < 32  # nothing is normalised, and nothing grows
    bounds = bounds_of(lowered, largest, images=4)
    assert max(bounds.bits) <= 24  # 32 * 2^13 * 2^4 is 2^22, a bit for the sign, one for a maximum
    check_bounds(bounds, lowered.plan)
