from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from primia_flwr.inference.lowering.windows import adaptive, max_tree, strided


def test_windows_leave_the_padding_out() -> None:
    # 5 cells, kernel 3, stride 2, padding 1: centres 0, 2, 4.
    assert strided(5, 3, 2, 1) == [(0, 2), (1, 4), (3, 5)]
    # 5 cells, kernel 2, stride 2: the last cell has no window (floor mode).
    assert strided(5, 2, 2, 0) == [(0, 2), (2, 4)]


def test_adaptive_windows_cover_an_enlarged_axis_too() -> None:
    assert adaptive(7, 1) == [(0, 7)]
    assert adaptive(2, 3) == [(0, 1), (0, 2), (1, 2)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_adaptive_windows_are_those_of_pytorch(size: int, count: int) -> None:
    values = torch.arange(float(size))[None, None] ** 2
    expected = functional.adaptive_avg_pool1d(values, count)[0, 0]
    found = torch.stack([values[0, 0, a:b].mean() for a, b in adaptive(size, count)])
    assert torch.allclose(found, expected)


def test_a_window_of_three_takes_two_levels_and_shares_equal_pairs() -> None:
    levels = max_tree(5, [(0, 2), (1, 4), (3, 5)])
    # Level 1: (0,1) | (1,2), 3 | (3,4); level 2: pass | pair | pass.
    assert [len(level.first) for level in levels] == [4, 3]
    assert levels[0].second == (1, 2, -1, 4)
    assert levels[1].second == (-1, 2, -1)


def test_windows_of_one_cell_take_no_level() -> None:
    assert max_tree(2, [(0, 1), (1, 2)]) == []
    assert [level.second for level in max_tree(3, [(0, 1), (2, 3)])] == [(-1, -1)]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(-9, 9), min_size=1, max_size=20),
    st.data(),
)
def test_the_tree_ends_in_the_maxima(values: list[int], data: st.DataObject) -> None:
    starts = data.draw(
        st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=6), label="starts"
    )
    windows = [(a, data.draw(st.integers(a + 1, len(values)))) for a in starts]
    levels = max_tree(len(values), windows)
    cells = list(values)
    for level in levels:
        cells = [
            cells[a] if b < 0 else max(cells[a], cells[b])
            for a, b in zip(level.first, level.second, strict=True)
        ]
    assert cells == [max(values[a:b]) for a, b in windows]
    longest = max(b - a for a, b in windows)
    if longest > 1:
        assert len(levels) == math.ceil(math.log2(longest))
