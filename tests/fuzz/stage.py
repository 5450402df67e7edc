"""An instance among five sites, stopped before each message to one of them and to the server.

The last site drops out after it was counted on, so that every kind of message is sent.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.protocol import wire
from primia_flwr.secagg.protocol.client import ClientInstance
from primia_flwr.secagg.protocol.membership import Told
from primia_flwr.secagg.protocol.server import ServerInstance
from primia_flwr.secagg.protocol.wire import decode, encode
from primia_flwr.secagg.state.journal import Journal
from tests.secagg.federation import BASES, TOLD, Federation, members, total, vectors

ME, LOST = "s001", "s005"


class Stage:
    """What an honest federation sends and stores, and both sides as they were before.

    `degree`: of a sparse graph. `before_requests`: the stored client `ME`, by the kind of request
    that comes next. `before_replies`: the server, by the kind of reply of `ME` that comes next.
    """

    def __init__(self, degree: int | None = None) -> None:
        self.everyone = members(5)
        honest = Federation(self.everyone, degree=degree)
        server, survivors = honest.server, tuple(sorted(set(self.everyone) - {LOST}))
        values = vectors(self.everyone)
        self.total = total(values, survivors)
        self.before_requests: list[tuple[Any, bytes]] = []
        self.before_replies: list[tuple[Any, ServerInstance]] = []
        self.requests: list[bytes] = []
        self.replies: list[bytes] = []

        def stop(asked: Any, request: Any) -> None:
            self.before_requests.append((asked, honest.clients[ME].to_bytes()))
            self.requests.append(encode(request))

        self.before_replies.append((wire.KeysReply, snapshot(server)))
        shares = honest.keys()
        stop(wire.SharesRequest, shares[ME])
        self.before_replies.append((wire.SharesReply, snapshot(server)))
        honest.shares(shares)
        stop(wire.MaskRequest, server.begin_sum(TOLD)[ME])
        honest.vectors(values, without={LOST})
        listed = Told(server._announcement, tuple(self.everyone))
        names, membership_proof = listed.to(ME)
        stop(wire.UnmaskRequest, wire.UnmaskRequest(1, names, membership_proof=membership_proof))
        stop(wire.SignRequest, server.sign_requests()[ME])
        self.before_replies.append((wire.SignReply, snapshot(server)))
        honest.signatures()
        requests = server.unmask_requests()
        stop(wire.UnmaskRequest, requests[ME])
        self.threshold = server.threshold
        for name, request in requests.items():
            reply = honest.clients[name].release(request, honest.journals[name])
            if name == ME:
                self.replies.append(encode(reply))
            else:
                server.add_release(name, reply)
        self.before_replies.append((wire.UnmaskReply, snapshot(server)))
        self.states = [state for _, state in self.before_requests]
        # Of each step the reply of `ME`, which comes first; masked vectors are no message.
        kinds = (wire.KeysReply, wire.SharesReply, wire.SignReply)
        for kind in kinds:
            self.replies.append(next(raw for raw in honest.seen if is_a(kind, raw)))
        self.messages = [encode(wire.KeysRequest(1)), *self.requests, *self.replies]

    def to_client(self, raw: bytes) -> None:
        """Give bytes to the client, in each of its steps that takes such a message.

        Raises
        ------
        ProtocolError
            If no step accepts them.
        """
        taken = [
            self._ask(ClientInstance.from_bytes(self.everyone[ME], state), decode(raw, kind))
            for kind, state in self.before_requests
            if is_a(kind, raw)
        ]
        if not any(taken):
            raise ProtocolError("no step takes it")

    def _ask(self, client: ClientInstance, request: Any) -> bool:
        journal, vector = Journal(None), np.zeros(8, np.uint32)
        try:
            if isinstance(request, wire.SharesRequest):
                client.share(request)
            elif isinstance(request, wire.MaskRequest):
                client.mask(request, [vector], transcript=TOLD, bases=BASES)
            elif isinstance(request, wire.SignRequest):
                client.sign(request, journal)
            else:
                reply = client.release(request, journal)
                assert not set(reply.seeds) & set(reply.mask_keys), "both secrets of one site"
                assert ME in reply.seeds
                assert len(reply.seeds) >= self.threshold
        except ProtocolError:
            return False
        raw = client.to_bytes()
        assert ClientInstance.from_bytes(self.everyone[ME], raw).to_bytes() == raw
        return True

    def to_server(self, raw: bytes) -> None:
        """Give bytes to the server as a reply of `ME`; what then comes out is the true sum.

        Raises
        ------
        ProtocolError
            If the server does not accept them.
        """
        for kind, before in self.before_replies:
            if not is_a(kind, raw):
                continue
            server, reply = snapshot(before), decode(raw, kind)
            if kind is wire.KeysReply:
                server.add_keys(ME, reply)
                assert raw in self.replies, "forged keys"
            elif kind is wire.SharesReply:
                server.add_shares(ME, reply)
            elif kind is wire.SignReply:
                server.add_signature(ME, reply)
                assert raw in self.replies, "a forged signature"
            else:
                server.add_release(ME, reply)
                (found,) = server.unmask()
                assert (found == self.total).all(), "a wrong sum"
            return
        raise ProtocolError("no step takes it")


def is_a(kind: Any, raw: bytes) -> bool:
    """Say whether bytes are a message of a kind."""
    try:
        decode(raw, kind)
    except ProtocolError:
        return False
    return True


def snapshot(server: ServerInstance) -> ServerInstance:
    """Return a server that can go on without changing that one."""
    taken = copy(server)
    for name, value in vars(server).items():
        if isinstance(value, dict | list):
            setattr(taken, name, copy(value))
    if server._sums is not None:
        taken._sums = [vector.copy() for vector in server._sums]
    return taken


STAGE = Stage()
SPARSE = Stage(degree=2)
