import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from scipy import stats

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import bind
from primia_flwr.secagg.payload.masks import _add, add_mask, add_masks, mask_key

KEYS = [bytes([i]) * 32 for i in range(4)]
CHUNK = 1 << 16  # entries that are masked at a time
SEGMENT = 1 << 20  # entries under one start of the counter


def mask(key: bytes, size: int) -> np.ndarray:
    """The definition: AES-256-CTR from (segment, 2) in each segment, as little-endian words."""
    stream = bytearray()
    for segment in range(-(-size // SEGMENT)):
        counter = segment.to_bytes(12, "big") + (2).to_bytes(4, "big")
        stream += Cipher(AES(key), CTR(counter)).encryptor().update(bytes(4 * SEGMENT))
    return np.frombuffer(bytes(stream), "<u4", size).astype(np.uint32)


def start(size: int) -> np.ndarray:
    return (np.arange(size, dtype=np.uint64) * 2_654_435_761 % 2**32).astype(np.uint32)


def test_known_answers_of_the_gcm_specification() -> None:
    # McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 14 and 15
    vector = np.zeros(4, np.uint32)
    add_mask(vector, bytes(32))
    assert vector.astype("<u4").tobytes().hex() == "cea7403d4d606b6e074ec5d3baf39d18"

    key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
    plaintext = (
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
    )
    ciphertext = (
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
    )
    vector = np.zeros(16, np.uint32)
    _add(vector, [(bytes.fromhex(key), 1)], first=0xCAFEBABEFACEDBADDECAF888)
    stream = int.from_bytes(vector.astype("<u4").tobytes(), "big")
    assert stream == int(plaintext, 16) ^ int(ciphertext, 16)


def test_definition_by_known_answers_of_nist_sp_800_38a() -> None:
    # F.5.5, CTR-AES256, first block: the mode in which this file states the definition
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    counter = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    plaintext = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
    made = Cipher(AES(key), CTR(counter)).encryptor().update(plaintext)
    assert made.hex() == "601ec313775789a5b7a7f504bbf3d228"


def test_words_are_little_endian() -> None:
    vector = np.zeros(1, np.uint32)
    add_mask(vector, bytes(32))
    assert vector.tolist() == [0x3D40A7CE]  # of the first bytes above, ce a7 40 3d


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 1001])
def test_small_vectors_match_the_definition(size: int) -> None:
    for sign in (1, -1):
        vector = start(size)
        add_mask(vector, KEYS[1], sign)
        expected = (start(size).astype(np.int64) + sign * mask(KEYS[1], size).astype(int)) % 2**32
        assert np.array_equal(vector, expected)


@pytest.mark.parametrize(
    "size",
    [CHUNK - 1, CHUNK, CHUNK + 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT + CHUNK + 7],
)
@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_chunks_segments_and_threads_match_the_definition(size: int, threads: int) -> None:
    masks = [(KEYS[0], 1), (KEYS[1], -1), (KEYS[2], -1)]
    vector = start(size)
    add_masks(vector, masks, threads=threads)
    expected = start(size)
    for key, sign in masks:
        expected = expected + mask(key, size) if sign > 0 else expected - mask(key, size)
    assert np.array_equal(vector, expected)


def test_pairwise_masks_cancel() -> None:
    vectors = [start(SEGMENT + 5) for _ in range(2)]
    add_masks(vectors[0], [(KEYS[0], 1)], threads=2)
    add_mask(vectors[1], KEYS[0], -1)
    assert not np.array_equal(vectors[0], start(SEGMENT + 5))
    assert np.array_equal(vectors[0] + vectors[1], 2 * start(SEGMENT + 5))
    add_mask(vectors[0], KEYS[0], -1)
    assert np.array_equal(vectors[0], start(SEGMENT + 5))


def test_no_mask_leaves_the_vector_alone() -> None:
    vector = start(100)
    add_masks(vector, [])
    assert np.array_equal(vector, start(100))


def test_keys_that_differ_in_one_bit_give_unrelated_masks() -> None:
    one, other = np.zeros((2, 10_000), np.uint32)
    add_mask(one, bytes(32))
    add_mask(other, bytes(31) + b"\x01")
    assert (one == other).sum() <= 1  # expected 10,000 / 2^32


def test_mask_words_are_uniform() -> None:
    vector = np.zeros(1 << 18, np.uint32)
    add_mask(vector, b"a fixed key, so nothing can flake"[:32])
    for shift in (0, 8, 16, 24):
        counts = np.bincount(vector >> shift & 255, minlength=256)
        assert 1e-3 < stats.chisquare(counts).pvalue < 1 - 1e-3


def test_mask_key_is_hkdf_under_its_purpose() -> None:
    hkdf = HKDF(
        algorithm=SHA256(), length=32, salt=None, info=bind("primia secagg v1 mask", b"info")
    )
    assert mask_key(KEYS[1], b"info") == hkdf.derive(KEYS[1])
    assert (
        len({mask_key(KEYS[1], b"info"), mask_key(KEYS[1], b""), mask_key(KEYS[2], b"info")}) == 3
    )


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(4, np.int32),
        np.zeros(4, np.int64),
        np.zeros(4, np.float32),
        np.zeros((2, 2), np.uint32),
        np.zeros(8, np.uint32)[::2],
        np.frombuffer(bytes(16), np.uint32),
    ],
)
def test_refuses_other_vectors(vector: np.ndarray) -> None:
    with pytest.raises(
        ProtocolError, match="expected a writable, contiguous uint32 or uint64 vector"
    ):
        add_mask(vector, KEYS[0])


def test_refuses_bad_keys_signs_and_threads_before_anything_is_added() -> None:
    vector = start(10)
    with pytest.raises(ProtocolError, match="a mask key has 16 bytes"):
        add_masks(vector, [(KEYS[0], 1), (bytes(16), 1)])
    with pytest.raises(ProtocolError, match="sign=0"):
        add_masks(vector, [(KEYS[0], 1), (KEYS[1], 0)])
    with pytest.raises(ProtocolError, match="threads=0"):
        add_masks(vector, [(KEYS[0], 1)], threads=0)
    with pytest.raises(ProtocolError, match="secret has 31 bytes"):
        mask_key(bytes(31), b"")
    assert np.array_equal(vector, start(10))
