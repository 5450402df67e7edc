"""What a client refuses: each case plays a server or a relay that tries it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.primitives.keys import InstanceKeys, PublicKeys
from primia_flwr.secagg.protocol.client import ClientInstance, Phase
from primia_flwr.secagg.protocol.parties import Floor, Member, Session
from primia_flwr.secagg.protocol.wire import (
    KeysRequest,
    MaskRequest,
    SharesRequest,
    SignRequest,
    UnmaskRequest,
)
from primia_flwr.secagg.state.journal import Journal
from tests.secagg.federation import BASES, TOLD, Federation, members, vectors

ME, OTHER = "s001", "s002"


@pytest.fixture
def five() -> Federation:
    return Federation(members(5))


def masked(federation: Federation) -> None:
    federation.shares(federation.keys())
    federation.vectors(vectors(federation.everyone))


def refuses(match: str) -> pytest.RaisesExc[ProtocolError]:
    return pytest.raises(ProtocolError, match=match)


# --- U1: keys and threshold ------------------------------------------------------------------


def altered(request: SharesRequest, name: str, raw: bytes) -> SharesRequest:
    return replace(request, keys={**request.keys, name: raw})


def test_a_u1_below_the_floor() -> None:
    everyone = members(4, Floor(min_survivors=5))
    federation = Federation(everyone, floor=Floor())
    request = federation.keys()[ME]
    with refuses("U1 of 4 sites in instance 1; expected at least min_survivors=5"):
        federation.clients[ME].share(request)


@pytest.mark.parametrize(("threshold", "colluding", "good"), [
    (3, 0, False), (4, 0, True), (5, 0, True), (6, 0, False), (3, 1, False), (4, 1, True),
    (4, 2, False), (5, 2, True),
])  # fmt: skip
def test_a_threshold_without_a_margin_or_above_all(
    threshold: int, colluding: int, good: bool
) -> None:
    # n = 5: t > (5 + c + 1) / 2 and t <= 5, so 4, 4 and 5 for c = 0, 1 and 2
    least = {0: 4, 1: 4, 2: 5}[colluding]
    everyone = members(5, Floor(max(3, colluding + 2), colluding))
    federation = Federation(everyone)
    request = replace(federation.keys()[ME], threshold=threshold)
    if good:
        assert len(federation.clients[ME].share(request).sealed) == 4
    else:
        with refuses(f"threshold={threshold} in instance 1; expected {least} to 5"):
            federation.clients[ME].share(request)


def signed_by(member: Member, *, run: str = "run", instance: int = 1) -> bytes:
    keys = InstanceKeys.generate()
    made = keys.advertise(member.identity, run=run, instance=instance, sender=member.name)
    return made.to_bytes()


@pytest.mark.parametrize(
    ("forge", "match"),
    [
        (lambda f: bytes(128), "does not verify|the same"),
        (lambda f: f.clients["s003"].public_keys().to_bytes(), "does not verify"),
        (lambda f: signed_by(f.everyone[OTHER], run="another run"), "does not verify"),
        (lambda f: signed_by(f.everyone[OTHER], instance=2), "does not verify"),
        (lambda f: b"short", "5 bytes; expected 128"),
    ],
    ids=["unsigned", "swapped", "other run", "other instance", "short"],
)
def test_forged_keys(five: Federation, forge: Callable[[Federation], bytes], match: str) -> None:
    request = five.keys()[ME]
    with refuses(match):
        five.clients[ME].share(altered(request, OTHER, forge(five)))
    assert five.clients[ME].phase is Phase.SPENT


def test_keys_of_a_stranger(five: Federation) -> None:
    request = five.keys()[ME]
    with refuses("'s999' is not on the roster"):
        five.clients[ME].share(altered(request, "s999", request.keys[OTHER]))


def test_repeated_keys() -> None:
    # One operator behind two names: both sign the same key.
    everyone = members(5)
    federation = Federation(everyone)
    request = federation.keys()[ME]
    keys = InstanceKeys.generate()
    for name in ("s004", "s005"):
        made = keys.advertise(everyone[name].identity, run="run", instance=1, sender=name)
        request = altered(request, name, made.to_bytes())
    with refuses("announce the same key"):
        federation.clients[ME].share(request)


def test_its_own_keys_altered_or_left_out(five: Federation) -> None:
    request = five.keys()[ME]
    mine = signed_by(five.everyone[ME])  # validly signed, but not those of this instance
    with refuses("its own keys altered"):
        five.clients[ME].share(altered(request, ME, mine))
    without = {name: raw for name, raw in request.keys.items() if name != OTHER}
    with refuses("its own keys altered or left out"):
        five.clients[OTHER].share(replace(request, keys=without))


# --- U2: shares ------------------------------------------------------------------------------


def mask_request(federation: Federation) -> MaskRequest:
    federation.shares(federation.keys())
    return federation.server.begin_sum(TOLD)[ME]


def mask(federation: Federation, request: MaskRequest) -> None:
    vector = vectors([ME])[ME]
    federation.clients[ME].mask(request, [vector], transcript=TOLD, bases=BASES)


def without(request: MaskRequest, *names: str) -> MaskRequest:
    members = tuple(name for name in request.members if name not in names)
    sealed = {name: raw for name, raw in request.sealed.items() if name not in names}
    return replace(request, members=members, sealed=sealed)


def test_a_u2_below_the_threshold_or_the_floor(five: Federation) -> None:
    with refuses("U2 of 2 sites, 2 of them near in instance 1; expected at least 3"):
        mask(five, without(mask_request(five), "s003", "s004", "s005"))
    careful = Federation(members(5, Floor(min_survivors=4)))
    with refuses("U2 of 3 sites"):
        mask(careful, without(mask_request(careful), "s004", "s005"))


def test_a_u2_with_strangers_or_without_itself(five: Federation) -> None:
    request = mask_request(five)
    with refuses("U2 with s999"):
        mask(five, replace(request, members=(*request.members, "s999")))
    another = Federation(members(5))
    with refuses("U2 without itself"):
        mask(another, without(mask_request(another), ME))


def test_a_share_that_is_missing(five: Federation) -> None:
    request = mask_request(five)
    sealed = {name: raw for name, raw in request.sealed.items() if name != OTHER}
    with refuses("expected one of each neighbour in U2"):
        mask(five, replace(request, sealed=sealed))


def flipped(raw: bytes) -> bytes:
    return raw[:40] + bytes([raw[40] ^ 1]) + raw[41:]


@pytest.mark.parametrize(
    "change",
    [flipped, lambda raw: raw[:-1], lambda raw: raw + b"0", lambda raw: b""],
    ids=["bit flipped", "truncated", "longer", "empty"],
)
def test_a_sealed_share_that_was_altered(
    five: Federation, change: Callable[[bytes], bytes]
) -> None:
    request = mask_request(five)
    sealed = {**request.sealed, OTHER: change(request.sealed[OTHER])}
    with refuses("the sealed message from 's002' to 's001' does not open"):
        mask(five, replace(request, sealed=sealed))


def test_a_share_that_was_sealed_for_another_or_in_another_instance() -> None:
    everyone = members(5)
    first, second = Federation(everyone), Federation(everyone, number=2)
    old, new = mask_request(first), mask_request(second)
    with refuses("does not open"):
        mask(second, replace(new, sealed={**new.sealed, OTHER: old.sealed[OTHER]}))
    third = Federation(everyone, number=3)
    request = mask_request(third)
    theirs = third.server._sealed[OTHER].sealed["s003"]
    with refuses("does not open"):
        mask(third, replace(request, sealed={**request.sealed, OTHER: theirs}))


# --- Survivors -------------------------------------------------------------------------------


def release(federation: Federation, survivors: tuple[str, ...], signatures: object = None) -> None:
    request = UnmaskRequest(1, survivors, dict(signatures or {}))  # type: ignore[call-overload]
    federation.clients[ME].release(request, federation.journals[ME])


@pytest.mark.parametrize(
    ("survivors", "match"),
    [
        (("s001", "s002", "s003", "s999"), "survivors with s999"),
        (("s002", "s003", "s004"), "survivors without itself"),
        (("s001", "s002"), "2 survivors, 2 of them near"),
        (("s001", "s002", "s003"), "3 survivors, 3 of them near"),
        (("s001", "s002", "s003", "s004"), "0 signatures on a survivor list without s005"),
    ],
)
def test_survivor_lists(five: Federation, survivors: tuple[str, ...], match: str) -> None:
    masked(five)
    with refuses(match):
        release(five, survivors)
    assert five.clients[ME].phase is Phase.SPENT


def test_a_list_below_the_sites_own_minimum() -> None:
    everyone = members(5, Floor(min_survivors=5))
    federation = Federation(everyone)
    masked(federation)
    with refuses("4 survivors, 4 of them near in instance 1; expected at least min_survivors=5"):
        federation.clients[ME].sign(
            SignRequest(1, ("s001", "s002", "s003", "s004")), federation.journals[ME]
        )


LIST = ("s001", "s002", "s003", "s004")


def signatures(federation: Federation, *names: str, of: tuple[str, ...] = LIST) -> dict[str, bytes]:
    return {
        name: federation.clients[name].sign(SignRequest(1, of), federation.journals[name]).signature
        for name in names
    }


def test_signatures_must_be_enough_true_and_on_this_list(five: Federation) -> None:
    masked(five)
    three = signatures(five, ME, "s002", "s003")
    with refuses("3 signatures on a survivor list without s005 in instance 1; expected at least 4"):
        release(five, LIST, three)
    for forged, match in [
        ({**three, "s004": three["s002"]}, "does not verify"),
        ({**three, "s004": bytes(64)}, "does not verify"),
        ({**three, "s999": three["s002"]}, "signatures of s999"),
    ]:
        again = Federation(members(5))
        masked(again)
        with refuses(match):
            release(again, LIST, forged)


def test_signatures_on_another_list(five: Federation) -> None:
    masked(five)
    other = ("s001", "s002", "s003", "s005")
    three = signatures(five, "s002", "s003", "s005", of=other)
    with refuses("does not verify"):
        release(five, LIST, {**three, "s004": three["s002"]})


def test_a_second_list_after_one_was_signed_or_answered(five: Federation) -> None:
    masked(five)
    signatures(five, ME)
    with refuses("each step once"):
        signatures(five, ME, of=("s001", "s002", "s003", "s005"))
    with refuses("expected the list it signed"):
        release(five, tuple(sorted(five.everyone)))
    another = Federation(members(5))
    masked(another)
    release(another, tuple(sorted(another.everyone)))
    with refuses("each step once"):
        release(another, tuple(sorted(another.everyone)))
    with refuses("each step once"):
        signatures(another, ME)


def test_a_full_list_is_not_signed(five: Federation) -> None:
    masked(five)
    with refuses("a full survivor list to sign"):
        signatures(five, ME, of=tuple(sorted(five.everyone)))


# --- Order and replay ------------------------------------------------------------------------


def test_messages_out_of_order_replayed_or_of_another_instance(five: Federation) -> None:
    request = five.keys()[ME]
    with refuses("each step once and in order"):
        five.clients[ME].release(UnmaskRequest(1, LIST), five.journals[ME])
    with refuses("a message of instance 2"):
        five.clients[ME].share(replace(request, instance=2))
    five.clients[ME].share(request)
    with refuses("each step once and in order"):
        five.clients[ME].share(request)


# --- The journal -----------------------------------------------------------------------------


def test_the_journal_survives_a_restart_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "site" / "answered.jsonl"
    Journal(path).record([b"m1"], ["b", "a", "c"])
    with path.open("a") as file:
        file.write('{"base": "6d31", "surv')
    again = Journal(path)
    again.record([b"m1"], ["a", "b", "c"])
    again.record([b"m2"], ["a", "b"])
    with refuses(
        "the sum over a, b is asked for a model or a round for which the sum over a, b, c was given"
    ):
        Journal(path).record([b"m1"], ["a", "b"])
    Journal(path, allow_other_list=True).record([b"m1"], ["a", "b"])
    assert len(path.read_text().splitlines()) == 3


def test_without_its_journal_a_site_answers_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answered.jsonl"
    path.write_text("not json\n")
    with refuses("line 1 cannot be read"):
        Journal(path)
    blocked = tmp_path / "a file"
    blocked.write_text("")
    with refuses("expected a writable file"):
        Journal(blocked / "answered.jsonl").record([b"m"], ["a", "b", "c"])


def test_secrets_are_gone_after_the_last_step(five: Federation) -> None:
    masked(five)
    release(five, tuple(sorted(five.everyone)))
    client = five.clients[ME]
    assert (client._keys, client._seed, client._held) == (None, b"", {})


# --- Who takes part --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("floor", "match"),
    [
        ({"min_survivors": 2}, "min_survivors=2; expected at least 3"),
        ({"min_survivors": 3, "max_colluding": 2}, "min_survivors=3; expected at least 4"),
        ({"min_survivors": 1, "accept_two": True}, "expected at least 2"),
        ({"min_survivors": 2, "max_colluding": 1, "accept_two": True}, "expected at least 3"),
        ({"max_colluding": -1}, "max_colluding=-1"),
    ],
)
def test_floors(floor: dict[str, int], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Floor(**floor)


def test_a_roster_with_one_key_twice_or_of_another_length() -> None:
    with pytest.raises(ConfigError, match="the same identity key"):
        Session("run", {"a": bytes(32), "b": bytes(32)})
    with pytest.raises(ConfigError, match="31 bytes"):
        Session("run", {"a": bytes(31)})


def test_a_member_must_hold_the_rosters_key() -> None:
    everyone = members(2)
    with pytest.raises(ConfigError, match="another identity key"):
        Member(ME, everyone[OTHER].identity, everyone[ME].session)
    assert "Ed25519PrivateKey" not in repr(everyone[ME])


def test_keys_request_names_an_instance() -> None:
    assert KeysRequest(7).instance == 7
    assert len(PublicKeys(bytes(32), bytes(32), bytes(64)).to_bytes()) == 128
    assert isinstance(ClientInstance(members(1)[ME], 7).begin().keys, bytes)
