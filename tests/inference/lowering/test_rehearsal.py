"""A plan in fixed point in the clear says what the two parties will find."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from primia_flwr.errors import ConfigError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.lowering.lowering import lower
from primia_flwr.inference.lowering.rehearsal import Rehearsal
from tests.inference.memory_link import classify
from tests.inference.protocol.test_online import Identity, integers, small_model

UNIT = 2.0**-ring.ACTIVATION_BITS


def rehearsal(net: nn.Module, *shape: int) -> Rehearsal:
    return Rehearsal(lower(net, shape), generator=torch.Generator().manual_seed(0))


def scaled(size: int, by: float) -> nn.Module:
    layer: nn.Linear = Identity(size)
    with torch.no_grad():
        layer.weight *= by
    return nn.Sequential(layer)


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (nn.ReLU(), (1, 6)),
        (nn.MaxPool2d(3, 2, 1), (1, 3, 7, 8)),
        (nn.MaxPool2d((1, 3), (1, 2)), (1, 3, 7, 8)),
    ],
)
def test_comparisons_are_those_of_the_integers(net: nn.Module, shape: tuple[int, ...]) -> None:
    values = integers(*shape)
    expected = net(values.double())
    whole = nn.Sequential(net, nn.Flatten(), Identity(expected[0].numel()))
    found = rehearsal(whole, *shape).classify(values * UNIT)
    assert torch.equal(found / UNIT, expected.flatten(1))


def test_an_average_is_rounded_down_or_up_by_its_remainder() -> None:
    values = torch.tensor([[[[1, 2], [2, 2]]]])  # 7 in 4 cells: 1 once in 4 times, else 2
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), Identity(1))
    run = rehearsal(net, 1, 1, 2, 2)
    found = torch.cat([run.classify(values * UNIT) for _ in range(400)]) / UNIT
    assert set(found.ravel().tolist()) == {1.0, 2.0}
    assert 1.65 < float(found.mean()) < 1.85  # 1.75; 4.6 standard deviations


@pytest.mark.parametrize(("value", "mean"), [(3, 1.5), (-3, -1.5), (1, 0.5)])
def test_a_cut_is_rounded_as_two_random_shares_are(value: int, mean: float) -> None:
    run = rehearsal(scaled(400, 0.5), 1, 400)
    values = torch.full((1, 400), value)
    found = run.classify(values * UNIT) / UNIT
    theirs = classify(lower(scaled(400, 0.5), (1, 400)), values * UNIT)[0] / UNIT
    for scores in (found, theirs):
        assert set(scores.ravel().tolist()) == {mean - 0.5, mean + 0.5}
        assert abs(float(scores.mean()) - mean) < 0.13  # 5 standard deviations


def test_wrong_cuts_by_hand() -> None:
    run = rehearsal(scaled(6, 1.0), 1, 6)
    run.classify(torch.tensor([[1.0, -1.0, 2.0, 0.0, 0.0, 4.0]]))
    assert run.wrong_cuts == pytest.approx(8 * 2**29 / 2**64)


@pytest.mark.parametrize("options", [{}, {"pool": "max"}])
def test_the_parties_find_the_same_within_some_units(options: dict[str, str]) -> None:
    model = small_model("simpleconv", **options)
    image = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    found = rehearsal(model, 1, 1, 16, 16).classify(image)
    theirs = classify(lower(model, (1, 1, 16, 16)), image)[0]
    assert (found - theirs).abs().max() < 0.001


def test_a_residual_network_too() -> None:
    model = small_model("resnet18")
    image = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        plain = model(image)
    found = rehearsal(model, 1, 1, 32, 32).classify(image)
    theirs = classify(lower(model, (1, 1, 32, 32)), image)[0]
    assert (found - plain).abs().max() < 0.01
    assert (found - theirs).abs().max() < 0.01


@pytest.mark.parametrize(("value", "fits"), [(2.0**17, False), (2.0**16, True)])
def test_a_product_that_leaves_the_ring_is_refused(value: float, fits: bool) -> None:
    run = rehearsal(scaled(1, 2.0**16), 1, 1)  # 2^17 is 2^30 units, times 2^32 is 2^62

    def classified() -> Tensor:
        return run.classify(torch.tensor([[value]]))

    if fits:
        assert classified().item() == 2.0**32
    else:
        with pytest.raises(ConfigError, match=r"linear layer 1 gives a product of 4.61e\+18"):
            classified()
