from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from primia_flwr.errors import CheckpointError, ConfigError
from primia_flwr.inference.lowering.bounds import (
    bounds_of,
    check_bounds,
    measure,
    needed_bits,
    refuse_old_file,
)
from primia_flwr.inference.lowering.lowering import lower
from primia_flwr.models.activation_bounds import ActivationBounds


def network(shift: float) -> nn.Module:
    layer = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.fill_(shift)  # type: ignore[union-attr]
    return nn.Sequential(layer, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 2)).eval()


def bounds(*largest: float) -> ActivationBounds:
    count = len(largest)
    return ActivationBounds(7, 4, ("layer",) * count, largest, (64,) * count)


def test_bounds_are_of_what_is_compared_before_the_relu() -> None:
    # x - 10 over x in 0 to 3: magnitudes of 7 to 10, and a ReLU that gives nothing but zeros.
    net = network(-10.0)
    batches = [torch.zeros(1, 1, 4, 4), torch.full((2, 1, 4, 4), 3.0)]
    largest = measure(net, batches)
    assert largest == [10.0, 10.0, 10.0]  # columns, rows, then the ReLU
    plan = lower(net, (1, 1, 4, 4)).plan
    # 10 * 2^13 * 2^4 is below 2^21 = 2^(22-1); a difference takes one bit more.
    assert needed_bits(largest, plan) == [23, 23, 22]


@pytest.mark.parametrize(("bits", "enough"), [(22, False), (23, True)])
def test_a_ring_that_is_too_small_is_refused(bits: int, enough: bool) -> None:
    plan = lower(network(0.0), (1, 1, 4, 4), compare_bits=bits).plan
    if enough:
        check_bounds(bounds(10.0, 10.0, 10.0), plan)
    else:
        with pytest.raises(ConfigError, match="compare_bits=22; expected at least 23"):
            check_bounds(bounds(10.0, 10.0, 10.0), plan)


def test_rings_are_computed_anew_whatever_the_card_says() -> None:
    plan = lower(network(0.0), (1, 1, 4, 4), compare_bits=22).plan
    with pytest.raises(ConfigError, match="expected at least 23"):
        check_bounds(replace(bounds(10.0, 10.0, 10.0), bits=(8, 8, 8)), plan)


def test_what_stands_in_the_card_by_hand() -> None:
    found = bounds_of(lower(network(0.0), (1, 1, 4, 4)), [10.0, 10.0, 10.0], images=7)
    # All three compare what the convolution gives: two maxima, then the ReLU.
    assert found == ActivationBounds(7, 4, ("_0",) * 3, (10.0,) * 3, (23, 23, 22))


def test_bounds_of_another_model_are_refused() -> None:
    with pytest.raises(CheckpointError, match="bounds of 2 comparisons; expected 3"):
        check_bounds(bounds(1.0, 2.0), lower(network(0.0), (1, 1, 4, 4)).plan)


def test_a_file_of_an_earlier_version_is_one_sentence(tmp_path: Path) -> None:
    refuse_old_file(tmp_path)
    (tmp_path / "activation-bounds.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"earlier version .*run primia inference calibrate"):
        refuse_old_file(tmp_path)


@pytest.mark.parametrize("pixel", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(pixel: float) -> None:
    batches = [torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), pixel)]
    with pytest.raises(ConfigError, match="not finite"):
        measure(network(0.0), batches)


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(ConfigError, match="no images"):
        measure(network(0.0), [])
