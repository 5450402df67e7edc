"""From which model another came: links by hand, and what leads nowhere."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.protocol.lineage import ancestors, link
from primia_flwr.secagg.protocol.parties import Session

NAMES = ("berlin", "london", "munich")
IDENTITIES = {name: Ed25519PrivateKey.generate() for name in NAMES}
RUN = "ab" * 16
SESSION = Session(RUN, {n: k.public_key().public_bytes_raw() for n, k in IDENTITIES.items()})
FIRST, ONE, TWO, THREE = (hashlib.sha256(bytes([n])).digest() for n in range(4))


def by(site, before, after, run=RUN, identity=None):
    return link(identity or IDENTITIES[site], run=run, site=site, before=before, after=after)


LINKS = {
    "000000 berlin": by("berlin", FIRST, ONE),
    "000001 london": by("london", ONE, TWO),
    "000002 munich": by("munich", TWO, THREE),
}


def test_the_way_back_is_the_nearest_first():
    assert ancestors(LINKS, THREE, SESSION) == [TWO, ONE, FIRST]
    assert ancestors(LINKS, ONE, SESSION) == [FIRST]
    assert ancestors(LINKS, FIRST, SESSION) == []
    assert ancestors({}, THREE, SESSION) == []


def test_a_link_that_is_missing_ends_the_way():
    assert ancestors({k: v for k, v in LINKS.items() if "london" not in k}, THREE, SESSION) == [TWO]


def test_links_in_another_order_lead_less_far_and_never_in_circles():
    turned = {f"{9 - int(k[:6]):06d}{k[6:]}": v for k, v in LINKS.items()}
    assert ancestors(turned, THREE, SESSION) == [TWO]
    circle = {"000000 berlin": by("berlin", ONE, ONE), "000001 berlin": by("berlin", ONE, ONE)}
    assert ancestors(circle, ONE, SESSION) == [ONE, ONE]


@pytest.mark.parametrize(
    "forged",
    [
        by("berlin", ONE, TWO),
        by("london", ONE, TWO, run="cd" * 16),
        by("london", ONE, TWO, identity=Ed25519PrivateKey.generate()),
        by("london", FIRST, TWO)[:32] + by("london", ONE, TWO)[32:],
        ONE + TWO + bytes(64),
    ],
    ids=["another site", "another run", "a stranger", "another model before", "no signature"],
)
def test_a_link_that_its_site_did_not_sign_is_refused(forged):
    if forged[:32] == FIRST:
        forged = FIRST + forged[32:]
    with pytest.raises(ProtocolError, match="does not verify"):
        ancestors(LINKS | {"000001 london": forged}, THREE, SESSION)


def test_who_is_not_on_the_roster_has_no_say():
    stranger = {"000000 paris": by("berlin", FIRST, ONE)}
    with pytest.raises(ProtocolError, match="'paris' is not on the roster"):
        ancestors(stranger, ONE, SESSION)


@pytest.mark.parametrize("size", [0, 127, 129])
def test_a_link_of_another_length_is_none(size):
    with pytest.raises(ProtocolError, match=f"a link of {size} bytes; expected 128"):
        ancestors({"000000 berlin": bytes(size)}, ONE, SESSION)
