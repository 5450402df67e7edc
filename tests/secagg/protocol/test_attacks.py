"""Four attacks by the server on the whole protocol: each works on a naive variant, not on ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pytest

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import KeyPair, digest
from primia_flwr.primitives.shamir import combine
from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.secagg.protocol.agreement import Masking, apply
from primia_flwr.secagg.protocol.client_checks import ClientChecks
from primia_flwr.secagg.protocol.parties import Floor
from primia_flwr.secagg.protocol.wire import MaskRequest, UnmaskReply, UnmaskRequest
from primia_flwr.secagg.state.journal import Journal
from tests.secagg.federation import BASES, Federation, members, total, vectors

NOTHING = np.zeros(8, np.uint32)


@contextmanager
def masks_bound_to(*, transcript: bool = True, members: bool = True) -> Iterator[None]:
    """Bind the masks to less than everything that was announced."""

    def loose(self: Masking) -> bytes:
        extra = [self.transcript if transcript else b"", *(self.members.label if members else ())]
        return digest("naive", self.announcement.digest, *extra)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Masking, "digest", property(loose))
        yield


# --- Told different things -------------------------------------------------------------------


def told_different_things() -> tuple[Vector, Vector]:
    """Tell two of three a scale at which they encode zero; return the sum and the third's."""
    everyone = members(3)
    federation = Federation(everyone)
    victim = vectors(everyone)["s001"]
    federation.shares(federation.keys())
    for name, request in federation.server.begin_sum(b"scale 1").items():
        transcript = b"scale 1" if name == "s001" else b"scale 0"
        masked = (victim if name == "s001" else NOTHING).copy()
        federation.clients[name].mask(request, [masked], transcript=transcript, bases=BASES)
        federation.server.add_vectors(name, [masked])
    return federation.unmask(), victim


def test_told_different_things() -> None:
    with masks_bound_to(transcript=False):
        opened, victim = told_different_things()
        assert np.array_equal(opened, victim), "the naive variant shows the third one's vector"
    opened, victim = told_different_things()
    assert not np.array_equal(opened, victim)
    assert len(set(opened - victim)) == 8, "noise"


# --- Withheld shares -------------------------------------------------------------------------


def withheld_shares() -> tuple[Vector, Vector]:
    """Let one of eight mask with two peers only, say those dropped, and open it."""
    everyone = members(8)  # the other five hold as many shares as the threshold
    federation = Federation(everyone)
    values = vectors(everyone)
    federation.shares(federation.keys())
    requests = federation.server.begin_sum(b"told")
    cut = ("s001", "s002", "s003")
    lie = MaskRequest(1, cut, {n: requests["s001"].sealed[n] for n in cut[1:]})
    masked = values["s001"].copy()
    federation.clients["s001"].mask(lie, [masked], transcript=b"told", bases=BASES)
    others = [name for name in everyone if name not in cut]
    replies = {}
    for name in others:
        federation.clients[name].mask(
            requests[name], [values[name]], transcript=b"told", bases=BASES
        )
        list_without_two = tuple(n for n in sorted(everyone) if n not in cut[1:])
        replies[name] = release(federation, name, UnmaskRequest(1, list_without_two))
    return opened(federation, masked, "s001", cut[1:], replies), vectors(everyone)["s001"]


def release(federation: Federation, name: str, request: UnmaskRequest) -> UnmaskReply:
    return federation.clients[name].release(request, federation.journals[name])


def opened(
    federation: Federation,
    masked: Vector,
    name: str,
    partners: tuple[str, ...],
    replies: Mapping[str, UnmaskReply],
) -> Vector:
    """Take the masks off one client's vector with what others released."""
    masking = federation.server._mask_terms
    announced = masking.announcement
    xs, threshold = announced.holders(name), announced.threshold
    seed = combine({xs[by]: r.seeds[name] for by, r in replies.items()}, threshold=threshold)
    masks = [masking.self_mask(name, seed)]
    for partner in partners:
        xs = announced.holders(partner)
        shares = {
            xs[by]: r.mask_keys[partner] for by, r in replies.items() if partner in r.mask_keys
        }
        pair = KeyPair.from_private(combine(shares, threshold=threshold))
        masks.append(masking.pair_mask(partner, pair, name).negated())
    apply([mask.negated() for mask in masks], [masked], threads=1)
    return masked


def test_withheld_shares() -> None:
    with masks_bound_to(members=False), pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientChecks, "check_members", lambda *_: None)
        patch.setattr(ClientChecks, "check_signatures", lambda *_: None)
        shown, victim = withheld_shares()
        assert np.array_equal(shown, victim), "the naive variant shows one vector"
    with pytest.raises(ProtocolError, match="U2 of 3 sites"):
        withheld_shares()


# --- Split survivor lists --------------------------------------------------------------------


def split_survivor_lists() -> tuple[Vector, Vector]:
    """Tell six clients that insist on four different lists of four; open the sum of three."""
    floor = Floor(min_survivors=4)
    everyone = members(6, floor)
    federation = Federation(everyone, floor=floor)
    values = vectors(everyone)
    federation.shares(federation.keys())
    masked = {}
    for name, request in federation.server.begin_sum(b"told").items():
        masked[name] = values[name].copy()
        federation.clients[name].mask(request, [masked[name]], transcript=b"told", bases=BASES)
    a, b, c, d, e, f = sorted(everyone)
    # t = 4: each of d, e and f is missing from four lists, which is enough for its mask key
    without = {a: (d, e), b: (e, f), c: (d, f), d: (e, f), e: (d, f), f: (d, e)}
    replies = {}
    for name, gone in without.items():
        survivors = tuple(sorted(set(everyone) - set(gone)))
        replies[name] = release(federation, name, UnmaskRequest(1, survivors))
    shown = NOTHING.copy()
    for name in (a, b, c):
        shown += opened(federation, masked[name], name, (d, e, f), replies)
    return shown, total(values, [a, b, c])


def test_split_survivor_lists() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientChecks, "check_signatures", lambda *_: None)
        shown, three = split_survivor_lists()
        assert np.array_equal(shown, three), "the naive variant shows a sum of fewer than each list"
    with pytest.raises(ProtocolError, match="0 signatures on a survivor list"):
        split_survivor_lists()


# --- Resume and subtract ---------------------------------------------------------------------


def resume_and_subtract() -> tuple[Vector, Vector]:
    """Finish with four, claim a crash, resume with three for the same model, and subtract."""
    everyone = members(4)
    values = vectors(everyone)
    first = Federation(everyone)
    with_four = first.run(values)
    again = Federation(everyone, number=2, journals=first.journals)
    with_three = again.run(values, {"keys": ["s004"]})
    return with_four - with_three, values["s004"]


def test_resume_and_subtract() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "check", lambda *_: None)
        shown, victim = resume_and_subtract()
        assert np.array_equal(shown, victim), "the naive variant shows the one who left"
    with pytest.raises(ProtocolError, match="the difference of two sums shows single sites"):
        resume_and_subtract()


def test_an_honest_resume_with_the_same_sites_gives_the_same_sum() -> None:
    everyone = members(4)
    values = vectors(everyone)
    first = Federation(everyone)
    again = Federation(everyone, number=2, journals=first.journals)
    assert np.array_equal(first.run(values), again.run(values))
