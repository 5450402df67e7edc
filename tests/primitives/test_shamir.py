import hashlib
import hmac
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.shamir import Interpolation, combine, matmul, split


def times(a: int, b: int) -> int:
    return int(matmul(np.array([[a]], np.uint8), np.array([[b]], np.uint8))[0, 0])


# --- The field --------------------------------------------------------------------------


def test_products_of_fips_197() -> None:
    assert times(0x57, 0x83) == 0xC1  # section 4.2
    assert [times(0x57, 1 << n) for n in (0, 1, 2, 3, 4)] == [0x57, 0xAE, 0x47, 0x8E, 0x07]  # 4.2.1
    assert times(0x57, 0x13) == 0xFE  # 4.2.1


def table() -> np.ndarray:
    every = np.arange(256, dtype=np.uint8)
    return matmul(every[:, None], every[None])


def test_field_axioms_for_all_elements() -> None:
    product = table()
    every = np.arange(256)
    assert np.array_equal(product, product.T)
    assert np.array_equal(product[1], every)
    assert not product[0].any()
    for a in range(1, 256):
        assert sorted(product[a]) == list(range(256))  # so each has an inverse
    for a in (0x02, 0x53, 0xCA, 0xFF):
        assert np.array_equal(product[product[a]], product[a][product])  # (ab)c = a(bc)
        sums = every[:, None] ^ every[None]
        assert np.array_equal(product[a][sums], product[a][:, None] ^ product[a][None])
    assert times(0x53, 0xCA) == 1  # the inverse behind the S-box entry S(0x53) = 0xed


def test_matrix_product_by_hand() -> None:
    left = np.array([[1, 2], [3, 0]], np.uint8)
    right = np.array([[0x80, 1], [0x01, 0]], np.uint8)
    # 1*80 ^ 2*01 = 82; 3*80 = 80 ^ 1b = 9b (0x100 reduces to 0x1b)
    assert matmul(left, right).tolist() == [[0x82, 1], [0x9B, 3]]


# --- Sharing ----------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_threshold_shares_give_the_secret(data: st.DataObject) -> None:
    secret = data.draw(st.binary(max_size=40))
    xs = data.draw(st.lists(st.integers(1, 255), min_size=2, max_size=12, unique=True))
    threshold = data.draw(st.integers(2, len(xs)))
    shares = split(secret, threshold, xs)
    assert list(shares) == xs
    chosen = data.draw(st.permutations(xs))[:threshold]
    some = {x: shares[x] for x in chosen}
    assert combine(some, threshold=threshold) == secret
    assert Interpolation(chosen).combine(some) == secret
    assert combine(shares, threshold=threshold) == secret


def test_shares_by_hand() -> None:
    # 0x2a + 0x80 x: at 1 0x2a ^ 0x80, at 2 0x2a ^ 0x1b (as 0x80 * 2 = 0x100)
    shares = split(b"\x2a", 2, [1, 2], rng=lambda n: b"\x80" * n)
    assert shares == {1: b"\xaa", 2: b"\x31"}


@pytest.mark.parametrize("x", [1, 2, 137, 255])
def test_one_share_of_two_is_uniform_whatever_the_secret(x: int) -> None:
    every = bytes(range(256))
    for secret in (0, 1, 0x42, 255):
        # position i has the random coefficient i: all of them once
        shares = split(bytes([secret]) * 256, 2, [x, 7], rng=lambda n: every[:n])
        assert sorted(shares[x]) == list(range(256))


def test_two_shares_of_three_are_uniform_whatever_the_secret() -> None:
    first, second = np.divmod(np.arange(65_536), 256)
    coefficients = first.astype(np.uint8).tobytes() + second.astype(np.uint8).tobytes()
    for secret in (0, 200):
        shares = split(bytes([secret]) * 65_536, 3, [5, 9, 77], rng=lambda n: coefficients[:n])
        pairs = np.frombuffer(shares[5], np.uint8).astype(int) * 256
        pairs += np.frombuffer(shares[77], np.uint8)
        assert np.array_equal(np.sort(pairs), np.arange(65_536))


def test_fewer_shares_interpolate_to_something_else() -> None:
    shares = split(b"the secret of thirty-two bytes..", 3, [1, 2, 3])
    assert Interpolation([1, 2]).combine(shares) != b"the secret of thirty-two bytes.."


def test_many_secrets_at_once_with_one_set_of_coefficients() -> None:
    xs = list(range(1, 101))
    secrets = [bytes([i]) * 32 for i in range(100)]
    shares = [split(secret, 67, xs) for secret in secrets]
    assert Interpolation(xs[33:]).combine_many(shares) == secrets
    assert Interpolation(xs).combine_many([]) == []


def test_randomness_is_asked_for_every_coefficient() -> None:
    asked: list[int] = []

    def rng(count: int) -> bytes:
        asked.append(count)
        return bytes(count)

    split(bytes(32), 4, [1, 2, 3, 4, 5], rng=rng)
    assert asked == [3 * 32]


# --- Refusals ---------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [-1, 0, 1, 4])
def test_refuses_a_threshold(threshold: int) -> None:
    with pytest.raises(ProtocolError, match=f"threshold={threshold}; expected 2 to 3"):
        split(b"s", threshold, [1, 2, 3])


@pytest.mark.parametrize(
    ("xs", "why"),
    [
        ([1, 2, 0], "x=0; expected another"),
        ([1, 256], "x=256; expected 1 to 255"),
        ([-1, 2], "x=-1; expected 1 to 255"),
        ([3, 4, 3], "x=3 is repeated"),
        ([], "no coordinate"),
    ],
)
def test_refuses_coordinates(xs: list[int], why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        split(b"s", 2, xs)
    with pytest.raises(ProtocolError, match=why):
        Interpolation(xs)


def test_refuses_to_interpolate_where_a_share_lies() -> None:
    with pytest.raises(ProtocolError, match="x=255; expected another"):
        Interpolation([1, 255], at=255)
    with pytest.raises(ProtocolError, match="x=300"):
        Interpolation([1, 255], at=300)


def test_refuses_too_few_missing_and_unequal_shares() -> None:
    shares = split(bytes(32), 3, [1, 2, 3, 4])
    with pytest.raises(
        ProtocolError, match="2 shares of the secret; expected at least threshold=3"
    ):
        combine({x: shares[x] for x in (1, 2)}, threshold=3)
    with pytest.raises(ProtocolError, match="the share at x=9 is missing"):
        Interpolation([1, 2, 9]).combine(shares)
    shares[2] = shares[2][:-1]
    with pytest.raises(ProtocolError, match=r"the shares have \[31, 32\] bytes"):
        combine(shares, threshold=3)


# --- Published vectors of SLIP-0039 -----------------------------------------------------
# https://github.com/trezor/python-shamir-mnemonic/blob/master/vectors.json, passphrase TREZOR.
# Under each set of mnemonics its identifier, iteration exponent, and the values of the shares.

PAIR_128 = (
    "shadow pistol academic always adequate wildlife fancy gross oasis cylinder mustang wrist "
    "rescue view short owner flip making coding armed",
    "shadow pistol academic acid actress prayer class unknown daughter sweater depict flip twice "
    "unkind craft early superior advocate guest smoking",
)
PAIR_256 = (
    "humidity disease academic always aluminum jewelry energy woman receiver strategy amuse "
    "duckling lying evidence network walnut tactics forget hairy rebound impulse brother survive "
    "clothes stadium mailman rival ocean reward venture always armed unwrap",
    "humidity disease academic agency actress jacket gross physics cylinder solution fake "
    "mortgage benefit public busy prepare sharp friar change work slow purchase ruler again "
    "tricycle involve viral wireless mixture anatomy desert cargo upgrade",
)
GROUP_THREE = (
    "eraser senior ceramic snake clay various huge numb argue hesitate auction category timber "
    "browser greatest hanger petition script leaf pickup",
    "eraser senior ceramic shaft dynamic become junior wrist silver peasant force math alto coal "
    "amazing segment yelp velvet image paces",
    "eraser senior ceramic round column hawk trust auction smug shame alive greatest sheriff "
    "living perfect corner chest sled fumes adequate",
)
GROUP_TWO = (
    "eraser senior decision roster beard treat identify grumpy salt index fake aviation theater "
    "cubic bike cause research dragon emphasis counter",
    "eraser senior decision smug corner ruin rescue cubic angel tackle skin skunk program roster "
    "trash rumor slush angel flea amazing",
)
SHARES: dict[tuple[str, ...], dict[int, str]] = {
    PAIR_128: {
        2: "08fb14b66e692e25dfe2edf53289ed62",
        0: "06ab48fef4bedc8ce58baeef0a73f76e",
    },
    PAIR_256: {
        2: "81e5473f4b7f66094f888d2f98fe0ded6a692dc72c65dc498d6e28bee6ebdfcc",
        1: "19e366e9b2e34851e52132c31c2b2c957321bf5ce6c9c1410ea1ddf5fef92c27",
    },
    GROUP_THREE: {
        4: "90f25bc998346d039203971999669e96",
        2: "fc119ebfe32da3d688dc1f26c22c7ffc",
        0: "9e6afad0e741c8c1c65b2785a942808a",
    },
    GROUP_TWO: {
        0: "44e95c567b0b73d470f78e2cc4f206ee",
        4: "a0c12ed2cc2adeb32ccebec07a3c1b3a",
    },
}


def slip39(shares: dict[int, bytes]) -> bytes:
    """Interpolate at 255 and check the digest that lies at 254 (SLIP-0039, section 'Sharing')."""
    secret = Interpolation(list(shares), at=255).combine(shares)
    share = Interpolation(list(shares), at=254).combine(shares)
    assert hmac.digest(share[4:], secret, "sha256")[:4] == share[:4]
    return secret


def decrypt(secret: bytes, identifier: int, exponent: int) -> bytes:
    """Undo SLIP-0039's Feistel cipher of the master secret, passphrase TREZOR."""
    left, right = secret[: len(secret) // 2], secret[len(secret) // 2 :]
    salt = b"shamir" + identifier.to_bytes(2, "big")
    for i in (3, 2, 1, 0):
        password, count = bytes([i]) + b"TREZOR", 2500 << exponent
        pad = hashlib.pbkdf2_hmac("sha256", password, salt + right, count, len(right))
        left, right = right, bytes(a ^ b for a, b in zip(left, pad, strict=True))
    return right + left


def published(mnemonics: tuple[str, ...]) -> dict[int, bytes]:
    return {x: bytes.fromhex(value) for x, value in SHARES[mnemonics].items()}


def test_slip_0039_two_shares_of_128_bits() -> None:
    secret = slip39(published(PAIR_128))
    assert decrypt(secret, 25653, 2).hex() == "b43ceb7e57a0ea8766221624d01b0864"


def test_slip_0039_two_shares_of_256_bits() -> None:
    secret = slip39(published(PAIR_256))
    expected = "c938b319067687e990e05e0da0ecce1278f75ff58d9853f19dcaeed5de104aae"
    assert decrypt(secret, 14279, 2).hex() == expected


def test_slip_0039_three_shares_and_two_levels() -> None:
    groups = {2: slip39(published(GROUP_THREE)), 3: slip39(published(GROUP_TWO))}
    assert decrypt(slip39(groups), 9497, 0).hex() == "7c3397a292a5941682d7a4ae2d898d11"


@pytest.mark.parametrize("mnemonics", list(SHARES))
def test_slip_0039_values_are_those_of_the_mnemonics(mnemonics: tuple[str, ...]) -> None:
    share = pytest.importorskip("shamir_mnemonic.share").Share
    decoded = [share.from_mnemonic(words) for words in mnemonics]
    assert {one.index: one.value for one in decoded} == published(mnemonics)
    assert all(one.member_threshold == len(mnemonics) for one in decoded)


def test_agrees_with_another_implementation() -> None:
    theirs = pytest.importorskip("shamir_mnemonic.shamir")
    shares = split(bytes(range(32)), 3, [1, 77, 200, 255])
    for xs in combinations(shares, 3):
        raw = [theirs.RawShare(x, shares[x]) for x in xs]
        for at in (0, 33, 254):
            assert theirs._interpolate(raw, at) == Interpolation(xs, at).combine(shares)
