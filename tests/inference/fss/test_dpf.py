"""Point functions against the paper's definition, one tree at a time in plain integers."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from scipy import stats

from primia_flwr.errors import ProtocolError
from primia_flwr.inference.arithmetic.randomness import Stream
from primia_flwr.inference.fss import dpf
from primia_flwr.inference.fss.prg import Hash

KEY = bytes(range(16))
SEED = bytes(range(32))
LOW, LEAF = 3, 2


def hashed(block: int) -> int:
    """AES_k(x) xor x of a block, little-endian."""
    plain = block.to_bytes(16, "little")
    return int.from_bytes(Cipher(AES(KEY), ECB()).encryptor().update(plain), "little") ^ block


def child(block: int, control: int, side: int, word: int) -> tuple[int, int]:
    """Return the corrected block and the control bit of a child."""
    corrected = hashed(block & ~LOW | side) ^ control * word
    return corrected, corrected >> side & 1


def leaf(block: int, control: int, word: int) -> int:
    return hashed(block & ~LOW | LEAF) ^ control * word


def generated(alpha: int, roots: tuple[int, int], levels: int) -> list[int]:
    """Gen of Boyle, Gilboa, Ishai 2016, figure 1, with leaves of 128 points."""
    blocks, controls, words = list(roots), [0, 1], []
    for level in range(levels):
        keep = alpha >> (7 + levels - 1 - level) & 1
        hashes = [[hashed(b & ~LOW | side) for side in (0, 1)] for b in blocks]
        word = (hashes[0][1 - keep] ^ hashes[1][1 - keep]) & ~LOW
        for side in (0, 1):
            opposite = 1 if side == keep else 0
            word |= ((hashes[0][side] ^ hashes[1][side] ^ opposite << side) >> side & 1) << side
        pairs = [child(b, t, keep, word) for b, t in zip(blocks, controls, strict=True)]
        blocks, controls = [b for b, _ in pairs], [t for _, t in pairs]
        words.append(word)
    return [*words, leaf(blocks[0], 0, 0) ^ leaf(blocks[1], 0, 0) ^ 1 << (alpha & 127)]


def values(party: int, root: int, words: list[int]) -> int:
    """One party's share of f at all points: bit y is that of point y."""
    nodes = [(root, party)]
    for word in words[:-1]:
        nodes = [child(b, t, side, word) for b, t in nodes for side in (0, 1)]
    leaves = [leaf(b, t, words[-1]) for b, t in nodes]
    return sum(value << 128 * i for i, value in enumerate(leaves))


def integers(blocks: np.ndarray) -> list[int]:
    raw = blocks.astype("<u8").tobytes()
    return [int.from_bytes(raw[i : i + 16], "little") for i in range(0, len(raw), 16)]


def dealt(alphas: list[int], domain_bits: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    stream, count = Stream(SEED, "roots", domain_bits), len(alphas)
    roots = stream.uint64((count, 2)), stream.uint64((count, 2))
    corrections = np.empty((dpf.levels(domain_bits) + 1, count, 2), np.uint64)
    dpf.generate(KEY, np.array(alphas, np.uint64), roots, corrections)
    return roots, corrections


def test_hash_by_the_known_answer_of_fips_197() -> None:
    plain = bytes.fromhex("00112233445566778899aabbccddeeff")
    blocks = np.frombuffer(plain * 2, np.uint64).reshape(2, 2).copy()
    Hash(KEY, 3).apply(blocks)
    cipher = bytes.fromhex("69c4e0d86a7b0430d8cdb78070b4c55a")
    expected = bytes(a ^ b for a, b in zip(cipher, plain, strict=True))
    assert blocks.tobytes() == expected * 2


def test_hash_refuses_a_key_of_another_length() -> None:
    with pytest.raises(ProtocolError, match="has 32 bytes; expected 16"):
        Hash(bytes(32), 1)


@pytest.mark.parametrize(("domain_bits", "levels"), [(7, 0), (8, 1), (31, 24), (63, 56)])
def test_depth_leaves_out_the_128_points_of_a_leaf(domain_bits: int, levels: int) -> None:
    assert dpf.levels(domain_bits) == levels


@pytest.mark.parametrize("domain_bits", [7, 8, 10])
def test_generate_and_the_values_are_those_of_the_definition(domain_bits: int) -> None:
    top = (1 << domain_bits) - 1
    alphas = [0, 1, 63, 64, 127, top // 2, top // 2 + 1, top - 1, top]
    roots, corrections = dealt(alphas, domain_bits)
    for i, alpha in enumerate(alphas):
        pair = integers(roots[0][i])[0], integers(roots[1][i])[0]
        words = integers(corrections[:, i])
        assert words == generated(alpha, pair, dpf.levels(domain_bits))
        shares = values(0, pair[0], words), values(1, pair[1], words)
        assert shares[0] ^ shares[1] == 1 << alpha


def test_depth_of_64_bits_is_that_of_the_definition() -> None:
    alphas = [0, 2**63 - 1, 0x0123456789ABCDEF]
    roots, corrections = dealt(alphas, 63)
    for i, alpha in enumerate(alphas):
        pair = integers(roots[0][i])[0], integers(roots[1][i])[0]
        assert integers(corrections[:, i]) == generated(alpha, pair, 56)


@pytest.mark.parametrize("domain_bits", [7, 8, 9])
def test_prefix_parity_at_all_points_for_all_alphas(domain_bits: int) -> None:
    size = 1 << domain_bits
    alphas, points = np.divmod(np.arange(size * size, dtype=np.uint64), np.uint64(size))
    roots, corrections = dealt(alphas.tolist(), domain_bits)
    shares = [dpf.prefix_parity(p, KEY, roots[p], corrections, points) for p in (0, 1)]
    assert np.array_equal(shares[0] ^ shares[1], alphas <= points)


def test_one_party_alone_sees_uniform_blocks_whatever_alpha_is() -> None:
    """Party 1 takes from the words all that it can compute; what is left is of party 0."""
    count = 1 << 15
    for alpha in (0, 200):
        roots, corrections = dealt([alpha] * count, 8)
        word, last = corrections
        views = [word, last]
        for side in (0, 1):
            block = roots[1].copy()
            block[:, 0] = block[:, 0] & np.uint64(2**64 - 4) | np.uint64(side)
            Hash(KEY, count).apply(block)
            views += [word ^ block, block]
            corrected = block ^ word
            for seed in (block, corrected):
                end = seed.copy()
                end[:, 0] = end[:, 0] & np.uint64(2**64 - 4) | np.uint64(LEAF)
                Hash(KEY, count).apply(end)
                views += [end ^ last]
        for view in views:
            raw = view.view(np.uint8).reshape(count, 16)
            counts = [np.bincount(raw[:, i], minlength=256) for i in range(16)]
            assert min(stats.chisquare(c).pvalue for c in counts) > 1e-4


def test_shares_of_one_party_are_balanced_at_every_point() -> None:
    count = 1 << 14
    points = np.arange(count, dtype=np.uint64) % np.uint64(256)
    for alpha in (0, 200):
        roots, corrections = dealt([alpha] * count, 8)
        for party in (0, 1):
            shares = dpf.prefix_parity(party, KEY, roots[party], corrections, points)
            ones = shares.reshape(64, 256).sum(axis=0, dtype=np.int64)  # 32 +- 4 of 64
            assert abs(ones - 32).max() < 5 * 4
            assert abs(ones.sum() - count // 2) < 5 * 64
