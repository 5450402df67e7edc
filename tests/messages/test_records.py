"""Models and measurements as records: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from primia_flwr.errors import ProtocolError
from primia_flwr.messages.keys import INCOMING
from primia_flwr.messages.records import (
    floats,
    get_evaluation,
    load_arrays,
    num_bytes,
    put_evaluation,
    to_arrays,
)
from primia_flwr.tasks.classification import TASK
from primia_flwr.tasks.task import Evaluation


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def test_only_floats_travel_and_come_back() -> None:
    sender, receiver = small(), small()
    sender[1].num_batches_tracked.fill_(7)
    receiver[1].num_batches_tracked.fill_(3)
    arrays = to_arrays(sender.state_dict())
    assert "1.num_batches_tracked" not in arrays
    load_arrays(receiver, arrays)
    assert torch.equal(receiver[0].weight, sender[0].weight)
    assert torch.equal(receiver[1].running_var, sender[1].running_var)
    assert receiver[1].num_batches_tracked.item() == 3


def test_bytes_are_four_for_each_float() -> None:
    arrays = to_arrays(small().state_dict())
    entries = 2 * 9 + 2 + 4 * 2  # kernels, their bias; weight, bias, mean, variance of the norm
    assert num_bytes(arrays) == 4 * entries


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda a: a.pop("0.bias"), "0.bias"),
        (lambda a: a.update(other=Array(np.zeros(1, np.float32))), "other"),
        (lambda a: a.update({"0.bias": Array(np.zeros(3, np.float32))}), "(3,)"),
        (lambda a: a.update({"0.bias": Array(np.zeros(2, np.float64))}), "float64"),
    ],
)
def test_other_arrays_are_refused(change, fragment: str) -> None:
    arrays = dict(to_arrays(small().state_dict()))
    change(arrays)
    with pytest.raises(ProtocolError, match=r"array") as caught:
        load_arrays(small(), ArrayRecord(arrays))
    assert fragment in str(caught.value)


@given(
    st.integers(2, 5).flatmap(
        lambda side: st.lists(st.integers(0, 10**9), min_size=side**2, max_size=side**2)
    ),
    st.floats(0, 1e12),
)
def test_evaluations_come_back(counts: list[int], loss: float) -> None:
    side = round(len(counts) ** 0.5)
    before = Evaluation(TASK, loss, sum(counts), {"confusion": np.array(counts, np.int64)})
    metrics = MetricRecord()
    put_evaluation(metrics, INCOMING, before)
    after = get_evaluation(metrics, INCOMING, TASK, side)
    assert after is not None
    assert (after.loss_sum, after.num_examples) == (loss, sum(counts))
    assert np.array_equal(after.counts["confusion"], before.counts["confusion"])


def test_no_evaluation_is_none() -> None:
    assert get_evaluation(MetricRecord(), INCOMING, TASK, 2) is None


@pytest.mark.parametrize("counts", [[1, 2, 3], [-1, 0, 0, 3], [1, 0, 0, 2]])
def test_impossible_counts_are_refused(counts: list[int]) -> None:
    metrics = MetricRecord(
        {"incoming-confusion": counts, "incoming-num-examples": 2, "incoming-loss-sum": 0.0}
    )
    with pytest.raises(ProtocolError, match="incoming-confusion"):
        get_evaluation(metrics, INCOMING, TASK, 2)


def test_floats_reads_numbers_only() -> None:
    config = ConfigRecord({"good": [0.5, 1.0], "bad": ["a"], "one": 0.5})
    assert floats(config, "good") == (0.5, 1.0)
    for key in ("bad", "one", "missing"):
        with pytest.raises(ProtocolError, match=key):
            floats(config, key)
