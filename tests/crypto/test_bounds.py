from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from primia_flwr.crypto.bounds import (
    check_bounds,
    measure,
    needed_bits,
    read_bounds,
    write_bounds,
)
from primia_flwr.crypto.lowering import lower
from primia_flwr.errors import CheckpointError, ConfigError


def network(shift: float) -> nn.Module:
    layer = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.fill_(shift)  # type: ignore[union-attr]
    return nn.Sequential(layer, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 2)).eval()


def test_bounds_are_of_what_is_compared_before_the_relu() -> None:
    # x - 10 over x in 0 to 3: magnitudes of 7 to 10, and a ReLU that gives nothing but zeros.
    net = network(-10.0)
    batches = [torch.zeros(1, 1, 4, 4), torch.full((2, 1, 4, 4), 3.0)]
    bounds = measure(net, batches)
    assert bounds == [10.0, 10.0, 10.0]  # columns, rows, then the ReLU
    plan = lower(net, (1, 1, 4, 4)).plan
    # 10 * 2^13 * 2^4 is below 2^21 = 2^(22-1); a difference takes one bit more.
    assert needed_bits(bounds, plan) == [23, 23, 22]


@pytest.mark.parametrize(("bits", "enough"), [(22, False), (23, True)])
def test_a_ring_that_is_too_small_is_refused(bits: int, enough: bool) -> None:
    plan = lower(network(0.0), (1, 1, 4, 4), compare_bits=bits).plan
    if enough:
        check_bounds([10.0] * 3, plan)
    else:
        with pytest.raises(ConfigError, match="compare_bits=22; expected at least 23"):
            check_bounds([10.0] * 3, plan)


def test_bounds_come_back_with_their_number_of_images(tmp_path: Path) -> None:
    assert read_bounds(tmp_path) is None
    plan = lower(network(0.0), (1, 1, 4, 4)).plan
    write_bounds(tmp_path, [1.0, 2.0, 3.0], images=7, plan=plan)
    assert read_bounds(tmp_path) == ([1.0, 2.0, 3.0], 7)


def test_bounds_of_another_model_are_refused() -> None:
    with pytest.raises(CheckpointError, match="has 2 bounds; expected 3"):
        check_bounds([1.0, 2.0], lower(network(0.0), (1, 1, 4, 4)).plan)


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"largest": ["x"], "images": 1})])
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "activation-bounds.json").write_text(content)
    with pytest.raises(CheckpointError, match="run it again"):
        read_bounds(tmp_path)


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(ConfigError, match="no images"):
        measure(network(0.0), [])
