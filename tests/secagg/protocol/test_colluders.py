"""Two lists for one instance, with colluding clients: how many shares of both secrets come out.

The server tells some honest clients that the victim dropped out, and the others that nobody did.
Those release shares of the victim's masking key, these of its self-mask seed; a colluding client
gives it both, and signs whatever it likes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import KeyPair, sign
from primia_flwr.primitives.shamir import combine
from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.secagg.protocol.agreement import LIST_PURPOSE, apply
from primia_flwr.secagg.protocol.graph import least_threshold
from primia_flwr.secagg.protocol.parties import Floor
from primia_flwr.secagg.protocol.wire import SignRequest, UnmaskRequest
from tests.secagg.federation import BASES, TOLD, Federation, members, vectors

DECLARED = (0, 1, 2, 3)
_FEW = 9  # of more clients, the same at many times the cost
CASES = [
    pytest.param(n, c, marks=pytest.mark.slow if n > _FEW else ())
    for c in DECLARED
    for n in range(max(3, c + 2), 13)
]


def floor_with(declared: int) -> Floor:
    return Floor(max(3, declared + 2), declared)


@contextmanager
def threshold_without_margin() -> Iterator[None]:
    """Have server and clients go by t > (n + c) / 2, and on a sparse graph by c."""

    def majority(self: Floor, holders: int) -> int:
        return (holders + self.max_colluding) // 2 + 1

    def sparse(self: Floor, clients: int, degree: int) -> int:
        return least_threshold(clients, self.max_colluding, degree)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Floor, "least_threshold", majority)
        patch.setattr(Floor, "sparse_threshold", sparse)
        yield


class TwoLists:
    """The attack on the first of n clients; the last of them collude."""

    def __init__(self, count: int, floor: Floor, colluding: int) -> None:
        self.federation = federation = Federation(members(count, floor), floor=floor)
        self.victim, *self.honest = sorted(federation.everyone)[: count - colluding]
        self.evil = sorted(federation.everyone)[count - colluding :]
        self.plain = vectors(federation.everyone)[self.victim]
        federation.shares(federation.keys())
        self.masked = {}
        for name, request in federation.server.begin_sum(TOLD).items():
            vector = vectors(federation.everyone)[name]
            federation.clients[name].mask(request, [vector], transcript=TOLD, bases=BASES)
            federation.server.add_vectors(name, [vector])
            self.masked[name] = vector
        held = {name: federation.clients[name]._held[self.victim] for name in self.evil}
        self.seeds = {name: shares.seed for name, shares in held.items()}
        self.mask_keys = {name: shares.mask_key for name, shares in held.items()}

    def play(self, deceived: int) -> None:
        """Tell so many that the victim is gone; collect what is released."""
        clients, journals = self.federation.clients, self.federation.journals
        everybody = tuple(sorted(clients))
        lie = tuple(name for name in everybody if name != self.victim)
        signatures = self._signed_by_evil(lie)
        for name in self.honest[:deceived]:
            reply = clients[name].sign(SignRequest(1, lie), journals[name])
            signatures[name] = reply.signature
        for name in self.honest[:deceived]:
            answer = clients[name].release(UnmaskRequest(1, lie, signatures), journals[name])
            self.mask_keys[name] = answer.mask_keys[self.victim]
        for name in [self.victim, *self.honest[deceived:]]:
            answer = clients[name].release(UnmaskRequest(1, everybody), journals[name])
            self.seeds[name] = answer.seeds[self.victim]

    def _signed_by_evil(self, lie: tuple[str, ...]) -> dict[str, bytes]:
        parts = self.federation.server._mask_terms.list_parts(lie)
        everyone = self.federation.everyone
        return {name: sign(everyone[name].identity, LIST_PURPOSE, *parts) for name in self.evil}

    def opened(self) -> Vector | None:
        """Return the victim's vector without its masks; None where a secret is not complete."""
        masking = self.federation.server._mask_terms
        announced, victim = masking.announcement, self.victim
        threshold, xs = announced.threshold, announced.holders(victim)
        if min(len(self.seeds), len(self.mask_keys)) < threshold:
            return None
        seeds, mask_keys = (
            {xs[name]: share for name, share in shares.items()}
            for shares in (self.seeds, self.mask_keys)
        )
        pair = KeyPair.from_private(combine(mask_keys, threshold=threshold))
        masks = [masking.self_mask(victim, combine(seeds, threshold=threshold))]
        masks += [masking.pair_mask(victim, pair, peer) for peer in masking.partners(victim)]
        shown = self.masked[victim].copy()
        apply([mask.negated() for mask in masks], [shown], threads=1)
        return shown


def opens(count: int, declared: int) -> bool:
    """Say whether one colluding client more than declared opens the victim, whoever is deceived."""
    colluding = declared + 1
    for deceived in range(count - colluding):
        attack = TwoLists(count, floor_with(declared), colluding)
        with suppress(ProtocolError):  # a client refused; what others released is still there
            attack.play(deceived)
        shown = attack.opened()
        if shown is not None:
            assert np.array_equal(shown, attack.plain)
            return True
    return False


@pytest.mark.parametrize(("count", "declared"), CASES)
def test_one_colluding_client_more_than_declared_opens_nobody(count: int, declared: int) -> None:
    assert not opens(count, declared)


@pytest.mark.parametrize(("count", "declared"), CASES)
def test_without_the_margin_it_does_where_n_and_c_are_not_both_odd_or_even(
    count: int, declared: int
) -> None:
    # 2 t = n + c + 1 is what two halves of the honest and c + 1 colluding clients reach; the lie
    # names n - 1 clients, which must be min_survivors.
    with threshold_without_margin():
        found = opens(count, declared)
    assert found == ((count + declared) % 2 == 1 and count > max(3, declared + 2))


def test_two_colluding_clients_more_than_declared_are_too_many_where_n_and_c_are_both_odd() -> None:
    # What the margin is worth: 2 t = n + c + 2. Of five, t = 4 and c = 1: three of them.
    attack = TwoLists(5, floor_with(1), 3)
    attack.play(1)
    shown = attack.opened()
    assert shown is not None
    assert np.array_equal(shown, attack.plain)


@pytest.mark.parametrize(
    ("declared", "thresholds"),
    [
        # n = 3 to 12, by hand: floor((n + c + 1) / 2) + 1
        (0, [3, 3, 4, 4, 5, 5, 6, 6, 7, 7]),
        (1, [3, 4, 4, 5, 5, 6, 6, 7, 7, 8]),
        (2, [None, 4, 5, 5, 6, 6, 7, 7, 8, 8]),
        (3, [None, None, 5, 6, 6, 7, 7, 8, 8, 9]),
    ],
)
def test_thresholds(declared: int, thresholds: list[int | None]) -> None:
    floor = floor_with(declared)
    for count, expected in enumerate(thresholds, start=3):
        if expected is None:
            assert count < floor.min_survivors
        else:
            assert floor.least_threshold(count) == expected
            assert 2 * expected > count + declared + 1
            assert expected <= count


def test_two_sites_that_accept_it_need_both_of_them() -> None:
    assert Floor(2, accept_two=True).least_threshold(2) == 2


# --- The sparse graph ------------------------------------------------------------------------


@pytest.mark.parametrize("declared", [1, 2, 3])
def test_a_sparse_graph_counts_one_more(declared: int) -> None:
    # All of the colluding may be neighbours of one client: t is one above c + 1.
    floor = floor_with(declared)
    everyone = members(30, floor)
    federation = Federation(everyone, floor=floor, degree=10)
    federation.keys()
    assert federation.server.threshold == declared + 2
    with threshold_without_margin():
        careless = Federation(everyone, floor=floor, degree=10)
        careless.keys()
        assert careless.server.threshold == declared + 1
