"""The product of a shared number with a bit of five masked ones, for all bits under all masks."""

from itertools import product

import numpy as np
import pytest

from primia_flwr.inference.arithmetic.randomness import Stream
from primia_flwr.inference.fss import choice

CASES = np.array(list(product((0, 1), repeat=10)), np.uint8).T  # five bits, five masks
COUNT = CASES.shape[1]
STREAM = Stream(bytes(32), "choice")
X, R, SHARES, SHARE = (STREAM.uint64(shape) for shape in (COUNT, COUNT, (10, 2, COUNT), COUNT))


def test_all_bits_under_all_masks() -> None:
    bits, masks = CASES[:5], CASES[5:]
    dealt = choice.values(masks, R)
    found = [
        choice.product(pairs, bits ^ masks, X + R, share)
        for pairs, share in ((SHARES, SHARE), (dealt - SHARES, X - SHARE))
    ]
    a, e, g, f, low = bits.astype(np.uint64)
    # G and F L are never both 1 in a comparison; what is computed of them is their XOR.
    assert np.array_equal(found[0] + found[1], X * (a + e * (g ^ f & low)))


def test_the_ten_bits_by_hand() -> None:
    masks, r = np.array([[1], [1], [0], [1], [1]], np.uint8), np.array([7], np.uint64)
    # sg ^ sf sl = 1; with sl, with sf, with both: 0, 0, 1
    bits = [1, 1, 1, 0, 0, 1, 1, 0, 0, 1]
    assert choice.values(masks, r)[:, :, 0].tolist() == [[bit, 7 * bit] for bit in bits]


@pytest.mark.parametrize(
    ("table_words", "pairs"), [(3, 4), (4, 4), (8, 3), (12, 2), (16, 1), (24, 0), (40, 0)]
)
def test_both_parties_are_sent_about_as_much(table_words: int, pairs: int) -> None:
    assert choice.pairs_to_data_owner(table_words) == pairs
    difference = 16 * (10 - pairs) - 16 * pairs - 8 * table_words
    assert difference < 32
    assert pairs == 0 or difference >= 0
