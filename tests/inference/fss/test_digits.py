"""Tables of digits at every point, against plain integers."""

import numpy as np
import pytest

from primia_flwr.inference.arithmetic.randomness import Stream
from primia_flwr.inference.fss import digits


@pytest.mark.parametrize(
    ("bits", "widths", "words"),
    [
        (8, (6, 1, 1), 3),
        (18, (6, 6, 6), 3),
        (19, (7, 6, 6), 4),
        (22, (8, 7, 7), 8),
        (27, (9, 9, 9), 24),
        (28, (8, 8, 12), 8),  # the low digit takes a tree
        (64, (8, 8, 48), 8),
    ],
)
def test_widths_and_words_by_hand(bits: int, widths: tuple[int, int, int], words: int) -> None:
    assert digits.widths(bits) == widths
    assert digits.rows(bits)[-1].stop == words
    assert digits.guard(bits) == 2 ** (widths[1] + widths[2])
    assert digits.has_tree(bits) == (bits > 27)


@pytest.mark.parametrize("bits", range(8, 65))
def test_digits_are_put_together_again(bits: int) -> None:
    widths = digits.widths(bits)
    assert sum(widths) == bits
    assert min(widths) >= 1
    numbers = Stream(bytes(32), "numbers").uint64(50)
    top, middle, low = digits.split(numbers, bits)
    shift = np.uint64(widths[1] + widths[2])
    again = top << shift | middle << np.uint64(widths[2]) | low
    assert np.array_equal(again, numbers & np.uint64(2**bits - 1))


def shared_tables(alphas: np.ndarray, width: int) -> list[np.ndarray]:
    own = Stream(bytes(32), "table").uint64((1 << max(width - 6, 0), alphas.size))
    other = own.copy()
    digits.mark(other, alphas)
    return [own, other]


def every(width: int) -> tuple[np.ndarray, np.ndarray]:
    size = 1 << width
    alphas, points = np.divmod(np.arange(size * size, dtype=np.uint64), np.uint64(size))
    return alphas, points


@pytest.mark.parametrize("width", [1, 2, 5, 6, 7, 8, 9])
def test_a_table_tells_less_and_equal_at_all_points_for_all_digits(width: int) -> None:
    alphas, points = every(width)
    one, other = (digits.read(table, points) for table in shared_tables(alphas, width))
    assert np.array_equal(digits.parity(one[0]) ^ digits.parity(other[0]), alphas < points)
    assert np.array_equal(one[1] ^ other[1], alphas == points)
    assert one[1].max() == 1


@pytest.mark.parametrize("width", [6, 7, 8, 9])
def test_the_top_table_is_a_circle(width: int) -> None:
    alphas, points = every(width)
    one, other = (digits.read_top(t, points, width) for t in shared_tables(alphas, width))
    ahead = (points - alphas) % np.uint64(1 << width)
    expected = (ahead > 0) & (ahead <= 1 << (width - 1))
    assert np.array_equal(digits.parity(one[0]) ^ digits.parity(other[0]), expected)
    assert np.array_equal(one[1] ^ other[1], alphas == points)


def test_a_mark_is_one_bit() -> None:
    one, other = shared_tables(np.array([5, 200], np.uint64), 8)
    changed = one ^ other
    assert changed.T.tolist() == [[1 << 5, 0, 0, 0], [0, 0, 0, 1 << (200 - 192)]]
