"""What a client of a sparse graph refuses; sums and costs are in `test_sparse`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import InstanceKeys, bind
from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.secagg.protocol.client import ClientInstance
from primia_flwr.secagg.protocol.membership import Told
from primia_flwr.secagg.protocol.parties import Floor
from primia_flwr.secagg.protocol.wire import (
    MaskRequest,
    MembershipProof,
    SharesRequest,
    SignRequest,
    UnmaskReply,
    UnmaskRequest,
    decode,
    encode,
)
from tests.secagg.federation import (
    BASES,
    TOLD,
    Federation,
    far,
    members,
    near,
    transcript_hash,
    vectors,
)

ME = "s001"
DEGREE = 4


@pytest.fixture
def twelve() -> Federation:
    return Federation(members(12), degree=DEGREE)


def strict() -> Federation:
    """Of 12, two may collude, and one more is counted, so all 4 neighbours but one: t = 4."""
    floor = Floor(min_survivors=5, max_colluding=2)
    return Federation(members(12, floor), degree=DEGREE, floor=floor)


def refuses(match: str) -> pytest.RaisesExc[ProtocolError]:
    return pytest.raises(ProtocolError, match=match)


# --- U1 --------------------------------------------------------------------------------------


def without(request: SharesRequest, *names: str) -> SharesRequest:
    return replace(request, keys={n: raw for n, raw in request.keys.items() if n not in names})


def altered(request: SharesRequest, name: str, raw: bytes) -> SharesRequest:
    return replace(request, keys=dict(sorted({**request.keys, name: raw}.items())))


def moved(request: SharesRequest, **values: object) -> SharesRequest:
    assert request.membership_proof
    return replace(request, membership_proof=request.membership_proof._replace(**values))  # type: ignore[arg-type]


def test_a_root_that_does_not_lead_to_its_own_keys(twelve: Federation) -> None:
    requests = twelve.keys()
    for forged in (
        moved(requests[ME], root=bytes(32)),
        moved(requests[ME], place=1),
        replace(requests[ME], membership_proof=requests["s002"].membership_proof),
    ):
        client = Federation(twelve.everyone, degree=DEGREE).clients[ME]
        with refuses("a list in which it is not at place"):
            client.share(forged)
    with refuses("a proof of 96 bytes for place 0 of 12; expected a place below 12, and 128"):
        twelve.clients[ME].share(moved(requests[ME], proof=bytes(96)))


def test_its_own_keys_altered_below_the_root_or_beside_it(twelve: Federation) -> None:
    requests = twelve.keys()
    identity = twelve.everyone[ME].identity
    others = InstanceKeys.generate().advertise(identity, run="run", instance=1, sender=ME)
    with refuses("its own keys altered or left out of U1"):
        twelve.clients[ME].share(altered(requests[ME], ME, others.to_bytes()))
    again = Federation(twelve.everyone, degree=DEGREE)
    again.keys()
    again.server._keys[ME] = others
    with refuses("a list in which it is not at place 0 of 12"):
        again.clients[ME].share(again.server.announce()[ME])


def test_another_number_of_neighbours(twelve: Federation) -> None:
    requests = twelve.keys()
    stranger = far(twelve, ME)[0]
    more = altered(requests[ME], stranger, requests[stranger].keys[stranger])
    with refuses("5 neighbours besides itself in instance 1; expected 4, as degree=4 says"):
        twelve.clients[ME].share(more)
    again = Federation(twelve.everyone, degree=DEGREE)
    with refuses("3 neighbours besides itself"):
        again.clients[ME].share(without(again.keys()[ME], *near(again, ME)[:1]))


def test_itself_does_not_count_as_a_neighbour(twelve: Federation) -> None:
    request = without(twelve.keys()[ME], near(twelve, ME)[0])
    assert len(request.keys) == DEGREE
    assert ME in request.keys
    with refuses("3 neighbours besides itself in instance 1; expected 4"):
        twelve.clients[ME].share(request)


def test_a_neighbour_twice(twelve: Federation) -> None:
    request = twelve.keys()[ME]
    one, other, *_ = near(twelve, ME)
    raw = encode(request)
    entry = bind(one, request.keys[one])
    with refuses("sorted, distinct names"):
        decode(raw.replace(bind(other, request.keys[other]), entry), SharesRequest)
    keys = InstanceKeys.generate()  # one operator behind two names: both sign the same key
    for name in (one, other):
        made = keys.advertise(
            twelve.everyone[name].identity, run="run", instance=1, sender=name
        ).to_bytes()
        request = altered(request, name, made)
    with refuses("announce the same key"):
        twelve.clients[ME].share(request)


def test_unsigned_keys_of_a_neighbour(twelve: Federation) -> None:
    request = twelve.keys()[ME]
    one, other, *_ = near(twelve, ME)
    with refuses("does not verify"):
        twelve.clients[ME].share(altered(request, one, request.keys[other]))


def test_more_clients_than_the_roster_has(twelve: Federation) -> None:
    # place 0 has four hashes in a tree of 12 and of 13: the number is bound, not proved
    with refuses("U1 of 13 sites in instance 1; expected at most the 12 of the roster"):
        twelve.clients[ME].share(moved(twelve.keys()[ME], size=13))


@pytest.mark.parametrize(("threshold", "good"), [(3, False), (4, True), (5, True), (6, False)])
def test_a_threshold_that_colluding_neighbours_reach(threshold: int, good: bool) -> None:
    federation = strict()
    request = replace(federation.keys()[ME], threshold=threshold)
    if good:
        assert len(federation.clients[ME].share(request).sealed) == DEGREE
    else:
        with refuses(f"threshold={threshold} in instance 1; expected 4 to 5: more than"):
            federation.clients[ME].share(request)


def test_thresholds_are_those_that_belong_to_the_suggested_degrees() -> None:
    # tests/secagg/protocol/test_graph.py: 1,000 clients, 5 % and 33 % of them corrupt; few of 12.
    # One of those is beyond what is declared.
    assert Floor(51, 49).sparse_threshold(1000, 72) == 24
    assert Floor(331, 329).sparse_threshold(1000, 286) == 150
    assert Floor().sparse_threshold(1000, 48) == 2
    assert Floor(5, 2).sparse_threshold(12, 4) == 4
    assert Floor(5, 2).sparse_threshold(4, 8) == 4
    assert Floor(5, 3).sparse_threshold(12, 4) == 5  # of all four neighbours and the client


def test_a_membership_proof_in_place_of_the_list_and_the_reverse(
    twelve: Federation,
) -> None:
    complete = Federation(twelve.everyone)
    with refuses("a membership proof in instance 1; expected all of it"):
        complete.clients[ME].share(twelve.keys()[ME])
    with refuses("a list without a membership proof in instance 1; expected one"):
        twelve.clients[ME].share(Federation(twelve.everyone).keys()[ME])


# --- U2 --------------------------------------------------------------------------------------


def mask_requests(federation: Federation) -> dict[str, MaskRequest]:
    federation.shares(federation.keys())
    return federation.server.begin_sum(TOLD)


def mask(federation: Federation, request: MaskRequest, name: str = ME) -> Vector:
    vector = vectors(federation.everyone)[name]
    federation.clients[name].mask(request, [vector], transcript=TOLD, bases=BASES)
    return vector


def test_a_u2_with_too_few_neighbours_or_too_few_at_all() -> None:
    federation = strict()
    mask_requests(federation)
    everyone = set(federation.everyone)
    with refuses("U2 of 10 sites, 3 of them near in instance 1; expected at least 5 of the 12"):
        mask(federation, transcript_hash(federation, ME, everyone - set(near(federation, ME)[:2])))
    again = strict()
    mask_requests(again)
    with refuses("U2 of 4 sites, 4 of them near"):
        mask(again, transcript_hash(again, ME, {ME, *near(again, ME)[:3]}))


def test_a_u2_with_strangers_without_itself_or_larger_than_u1(twelve: Federation) -> None:
    stored = {}
    request = mask_requests(twelve)[ME]
    stored[ME] = twelve.clients[ME].to_bytes()
    assert request.membership_proof
    stranger = far(twelve, ME)[0]
    for forged, match in [
        (replace(request, members=tuple(sorted((*request.members, stranger)))), "U2 with"),
        (replace(request, members=tuple(near(twelve, ME))), "U2 without itself"),
        (
            replace(request, membership_proof=request.membership_proof._replace(size=13)),
            "U2 of 13 sites",
        ),
        (
            replace(request, membership_proof=request.membership_proof._replace(root=bytes(32))),
            "not at place 0",
        ),
        (replace(request, membership_proof=None), "a list without a membership proof"),
    ]:
        client = ClientInstance.from_bytes(twelve.everyone[ME], stored[ME])
        with refuses(match):
            client.mask(forged, [vectors([ME])[ME]], transcript=TOLD, bases=BASES)


# --- Survivors -------------------------------------------------------------------------------


def masked(federation: Federation, lost: tuple[str, ...] = ()) -> Federation:
    federation.shares(federation.keys())
    federation.vectors(vectors(federation.everyone), without=lost)
    return federation


def listing(
    federation: Federation, gone: set[str]
) -> tuple[tuple[str, ...], MembershipProof | None]:
    names = tuple(sorted(set(federation.everyone) - gone))
    return Told(federation.server._announcement, names).to(ME)


def sign(
    federation: Federation, names: tuple[str, ...], membership_proof: MembershipProof | None
) -> None:
    request = SignRequest(1, names, membership_proof)
    federation.clients[ME].sign(request, federation.journals[ME])


def release(federation: Federation, request: UnmaskRequest) -> UnmaskReply:
    return federation.clients[ME].release(request, federation.journals[ME])


def test_near_survivors_below_the_threshold() -> None:
    federation = masked(strict())
    with refuses("10 survivors, 3 of them near in instance 1; expected at least min_survivors=5"):
        sign(federation, *listing(federation, set(near(federation, ME)[:2])))


def test_survivors_that_do_not_fit_u2(twelve: Federation) -> None:
    masked(twelve)
    stored = twelve.clients[ME].to_bytes()
    neighbour, (stranger, other, *_) = near(twelve, ME)[0], far(twelve, ME)
    whole, without_one = listing(twelve, set()), listing(twelve, {stranger})
    fewer = tuple(name for name in whole[0] if name != neighbour)
    announced = twelve.server._announcement
    another = Told(announced, tuple(sorted({*twelve.everyone, "s999"} - {other}))).to(ME)
    for (names, membership_proof), match in [
        ((whole[0], another[1]), "12 survivors of 12 sites in U2, 0 of those missing near"),
        ((fewer, whole[1]), "12 survivors of 12 sites in U2, 1 of those missing near"),
        ((fewer[:-1], without_one[1]), "11 survivors of 12 sites in U2, 2 of those missing near"),
        ((tuple(sorted((*whole[0], stranger))), without_one[1]), f"survivors with {stranger}"),
        ((tuple(near(twelve, ME)), without_one[1]), "survivors without itself"),
        ((whole[0], None), "a list without a membership proof"),
        (whole, "a full survivor list to sign"),
    ]:
        twelve.clients[ME] = ClientInstance.from_bytes(twelve.everyone[ME], stored)
        with refuses(match):
            sign(twelve, names, membership_proof)


def test_signatures_of_its_neighbourhood_and_on_this_list() -> None:
    for few, match in [(0, "0 signatures on a survivor list"), (1, "1 signatures"), (2, "")]:
        federation = Federation(members(12), degree=DEGREE)
        federation.shares(federation.keys())
        lost = far(federation, ME)[0]
        federation.vectors(vectors(federation.everyone), without=[lost])
        federation.signatures()
        assert federation.server.signed
        request = federation.server.unmask_requests()[ME]
        assert sorted(request.signatures) == sorted([ME, *near(federation, ME)])
        less = replace(request, signatures=dict(list(request.signatures.items())[:few]))
        if match:
            with refuses(f"{match}.*expected at least 2"):
                release(federation, less)
        else:
            assert sorted(release(federation, less).seeds) == sorted([ME, *near(federation, ME)])


def test_signatures_of_others_or_on_another_list(twelve: Federation) -> None:
    twelve.shares(twelve.keys())
    lost, other, *_ = far(twelve, ME)
    twelve.vectors(vectors(twelve.everyone), without=[lost])
    twelve.signatures()
    request = twelve.server.unmask_requests()[ME]
    stored = twelve.clients[ME].to_bytes()
    with refuses(f"signatures of {other}"):
        theirs = {**request.signatures, other: twelve.server._signatures[other]}
        release(twelve, replace(request, signatures=theirs))
    twelve.clients[ME] = ClientInstance.from_bytes(twelve.everyone[ME], stored)
    with refuses("expected the list it signed: 11 sites of Merkle root"):
        names, membership_proof = listing(twelve, {other})
        release(twelve, replace(request, survivors=names, membership_proof=membership_proof))
