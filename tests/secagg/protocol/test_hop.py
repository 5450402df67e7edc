"""One hop of a sealed relay: what opens, and what does not."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import KeyPair
from primia_flwr.secagg.protocol.hop import Hop, HopKey
from primia_flwr.secagg.protocol.parties import Session

NAMES = ["berlin", "london", "munich"]
IDENTITIES = {name: Ed25519PrivateKey.generate() for name in NAMES}
SESSION = Session("ab" * 16, {n: k.public_key().public_bytes_raw() for n, k in IDENTITIES.items()})
PAIRS = {name: KeyPair.generate() for name in NAMES}
MODEL = bytes(range(256)) * 64
HOP = Hop(SESSION, b"terms", 3, 1, "berlin", "london")


def key(name, cycle=3, pair=None, identity=None, run=SESSION.run):
    identity = identity or IDENTITIES[name]
    return HopKey.signed(pair or PAIRS[name], identity, run=run, cycle=cycle, site=name)


def sealed(hop=HOP):
    return hop.seal(PAIRS["berlin"], key("london"), MODEL, ["berlin", "munich"])


def test_the_receiver_opens_what_was_sealed_for_it_and_learns_who_is_in_it():
    found = HOP.open(PAIRS["london"], key("berlin"), sealed())
    assert found == (MODEL, ("berlin", "munich"))


def test_it_is_33_bytes_longer_for_three_sites_and_34_for_nine():
    assert len(sealed()) == len(MODEL) + 32 + 1
    more = {f"site-{i}": Ed25519PrivateKey.generate() for i in range(6)}
    keys = {n: k.public_key().public_bytes_raw() for n, k in (IDENTITIES | more).items()}
    nine = replace(HOP, session=Session(SESSION.run, keys))
    blob = nine.seal(PAIRS["berlin"], key("london"), MODEL, NAMES)
    assert len(blob) == len(MODEL) + 32 + 2
    assert nine.open(PAIRS["london"], key("berlin"), blob)[1] == tuple(NAMES)


def test_equal_models_sealed_twice_share_no_16_bytes():
    one, two = sealed(), sealed()
    windows = {one[at : at + 16] for at in range(len(one) - 15)}
    assert not any(two[at : at + 16] in windows for at in range(len(two) - 15))
    assert not any(MODEL[at : at + 16] in one for at in range(0, 512))


@given(st.integers(0, len(MODEL) + 32), st.integers(1, 255))
def test_one_changed_byte_anywhere_does_not_open(place, change):
    blob = bytearray(_BLOB)
    blob[place] ^= change
    with pytest.raises(ProtocolError, match="does not open"):
        HOP.open(PAIRS["london"], key("berlin"), bytes(blob))


_BLOB = sealed()


@pytest.mark.parametrize("cut", [0, 1, 16, 47, len(_BLOB) - 1])
def test_a_part_of_it_does_not_open(cut):
    with pytest.raises(ProtocolError, match="does not open"):
        HOP.open(PAIRS["london"], key("berlin"), _BLOB[:cut])


@pytest.mark.parametrize(
    "other",
    [
        replace(HOP, cycle=4),
        replace(HOP, position=2),
        replace(HOP, terms=b"other terms"),
        replace(HOP, sender="munich"),
        replace(HOP, session=Session("cd" * 16, SESSION.identities)),
        replace(HOP, session=Session(SESSION.run, {n: SESSION.identities[n] for n in NAMES[:2]})),
    ],
    ids=["a later cycle", "another position", "other terms", "another sender", "run", "roster"],
)
def test_a_replay_anywhere_else_does_not_open(other):
    run = other.session.run
    sender = key(other.sender, other.cycle, PAIRS["berlin"], run=run)
    with pytest.raises(ProtocolError, match="does not open"):
        other.open(PAIRS["london"], sender, _BLOB)


def test_another_receiver_does_not_open_it():
    with pytest.raises(ProtocolError, match="does not open"):
        replace(HOP, receiver="munich").open(PAIRS["munich"], key("berlin"), _BLOB)
    with pytest.raises(ProtocolError, match="does not open"):
        HOP.open(PAIRS["munich"], key("berlin"), _BLOB)


@pytest.mark.parametrize(
    ("swapped", "said"),
    [
        (key("munich"), "does not verify"),
        (key("london", cycle=2), "does not verify"),
        (key("london", identity=Ed25519PrivateKey.generate()), "does not verify"),
        (key("london", run="cd" * 16), "does not verify"),
        (replace(key("london"), public=PAIRS["munich"].public), "does not verify"),
        (HopKey(bytes(32), bytes(64)), "does not verify"),
    ],
    ids=["another site's", "an earlier cycle's", "a stranger's", "run", "key replaced", "zeros"],
)
def test_nothing_is_sealed_for_a_key_that_is_not_the_receivers(swapped, said):
    with pytest.raises(ProtocolError, match=said):
        HOP.seal(PAIRS["berlin"], swapped, MODEL, NAMES)
    with pytest.raises(ProtocolError, match=said):
        replace(HOP, sender="london").open(PAIRS["berlin"], swapped, _BLOB)


def test_who_is_not_on_the_roster_gets_nothing():
    with pytest.raises(ProtocolError, match="site 'paris' is not on the roster"):
        replace(HOP, receiver="paris").seal(PAIRS["berlin"], key("london"), MODEL, NAMES)


def test_a_key_of_low_order_is_refused_though_its_owner_signed_it():
    class Zero(KeyPair):
        public = bytes(32)

        def __init__(self):
            pass

    signed = HopKey.signed(Zero(), IDENTITIES["london"], run=SESSION.run, cycle=3, site="london")
    with pytest.raises(ProtocolError, match="low order"):
        HOP.seal(PAIRS["berlin"], signed, MODEL, NAMES)


@pytest.mark.parametrize("size", [0, 95, 97])
def test_a_key_of_another_length_is_none(size):
    with pytest.raises(ProtocolError, match=f"a relay key of {size} bytes; expected 96"):
        HopKey.from_bytes(bytes(size))
    assert HopKey.from_bytes(key("london").to_bytes()) == key("london")
