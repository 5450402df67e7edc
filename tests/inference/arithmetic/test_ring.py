from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.plan import Average, Geometry

WORDS = st.integers(-(2**63), 2**63 - 1)


def wrapped(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


def test_fixed_point_by_hand() -> None:
    assert ring.encode(torch.tensor([1.5, -0.25]), 4).tolist() == [24, -4]
    assert ring.decode(torch.tensor([24, -4]), 4).tolist() == [1.5, -0.25]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2.0**50])
def test_what_does_not_fit_is_refused(value: float) -> None:
    with pytest.raises(ProtocolError, match="below 2"):
        ring.encode(torch.tensor([value]), 13)


@settings(deadline=None)
@example(-1, -(2**63), 13)  # the one share that has no negative
@given(st.integers(-(2**40), 2**40), WORDS, st.integers(1, 20))
def test_truncated_shares_are_off_by_at_most_one(x: int, mask: int, bits: int) -> None:
    # |x| <= 2^40: the shares wrap the wrong way with a chance of 2^-23 at most.
    shares = torch.tensor([wrapped(x - mask)]), torch.tensor([mask])
    if abs(int(shares[0]) + int(shares[1]) - x) > 0:
        return  # they do: the documented failure
    cut = sum(int(ring.truncate(s, bits, party)) for party, s in enumerate(shares))
    assert abs(wrapped(cut) - x / 2**bits) <= 1


@settings(deadline=None)
@example(-1, -(2**63), 49)
@given(st.integers(-(2**40), 2**40), WORDS, st.integers(1, 49))
def test_divided_shares_are_off_by_at_most_one(x: int, mask: int, by: int) -> None:
    shares = torch.tensor([wrapped(x - mask)]), torch.tensor([mask])
    if abs(int(shares[0]) + int(shares[1]) - x) > 0:
        return
    cut = sum(int(ring.divide(s, torch.tensor([by]), party)) for party, s in enumerate(shares))
    assert abs(wrapped(cut) - x / by) <= 1


@settings(max_examples=50, deadline=None)
@given(st.lists(WORDS, min_size=6, max_size=6), st.lists(WORDS, min_size=6, max_size=6))
def test_products_are_those_of_integers_modulo_2_64(a: list[int], b: list[int]) -> None:
    left, right = torch.tensor(a).reshape(2, 3), torch.tensor(b).reshape(2, 3)
    found = ring.product(left, right, None)
    for i in range(2):
        for j in range(2):
            exact = sum(int(left[i, k]) * int(right[j, k]) for k in range(3))
            assert int(found[i, j]) == wrapped(exact)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_convolutions_are_those_of_integers_modulo_2_64(data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([1, 2]))
    stride = data.draw(st.sampled_from([1, 2]))
    padding = data.draw(st.sampled_from([0, 1]))
    dilation = data.draw(st.sampled_from([1, 2]))
    draw = data.draw(st.lists(WORDS, min_size=2 * 36 + 2 * 2 * 4, max_size=2 * 36 + 2 * 2 * 4))
    value = torch.tensor(draw[:72]).reshape(1, 2, 6, 6)
    weight = torch.tensor(draw[72:]).reshape(2, 2, 2, 2)[:, : 2 // groups].contiguous()
    geometry = Geometry((stride, stride), (padding, padding), (dilation, dilation), groups)
    found = ring.product(value, weight, geometry)
    out, row, column = 1, found.shape[2] - 1, found.shape[3] - 1  # the last cell, at the border
    exact = 0
    for channel in range(2 // groups):
        for i in range(2):
            for j in range(2):
                y, x = (at * stride - padding + k * dilation for at, k in ((row, i), (column, j)))
                if 0 <= y < 6 and 0 <= x < 6:
                    source = channel + (2 // groups) * (out * groups // 2)
                    exact += int(value[0, source, y, x]) * int(weight[out, channel, i, j])
    assert int(found[0, out, row, column]) == wrapped(exact)


def test_an_average_divides_by_the_number_of_cells() -> None:
    step = Average(0, 1, ((0, 2), (2, 3)), ((0, 3),), (1, 1, 2, 1))
    values = torch.tensor([[[[6, 6, 6], [12, 12, 12], [30, 33, 36]]]])
    assert ring.average(values, step, ring.DATA_OWNER).flatten().tolist() == [9, 33]
    assert ring.average(values, step, ring.MODEL_OWNER).flatten().tolist() == [9, 33]
