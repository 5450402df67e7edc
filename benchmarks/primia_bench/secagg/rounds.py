"""One instance of the protocol in one process, and what it costs each party.

Every message goes through its bytes, and a client is stored and loaded between two of them, as
at a site. The server is honest and gives up where `strategies.aggregators.secure.aggregator` does.
Seconds are the processor's; those of a client are for loading, decoding, acting, encoding and
storing, on one thread.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.secagg.protocol.client import ClientInstance
from primia_flwr.secagg.protocol.parties import Floor, Member, Session
from primia_flwr.secagg.protocol.server import ServerInstance
from primia_flwr.secagg.protocol.wire import (
    KeysReply,
    MaskRequest,
    SharesReply,
    SharesRequest,
    SignReply,
    SignRequest,
    UnmaskReply,
    UnmaskRequest,
    decode,
    encode,
    encode_each,
)
from primia_flwr.secagg.state.journal import Journal

STEPS = ("keys", "shares", "vectors", "signatures", "unmask")
FLOOR = Floor()
TOLD, BASES = b"all that was told", (b"the model", b"the round")
Lost = Mapping[str, str]
Payload = Callable[[str], list[Vector]]
Act = Callable[[ClientInstance, Journal, bytes], bytes]


def enlist(count: int, floor: Floor = FLOOR) -> dict[str, Member]:
    """Return sites s0001, s0002, ... with fresh identities and one roster."""
    identities = {f"s{i:04d}": Ed25519PrivateKey.generate() for i in range(1, count + 1)}
    public = {name: key.public_key().public_bytes_raw() for name, key in identities.items()}
    session = Session("benchmark", public)
    return {name: Member(name, key, session, floor) for name, key in identities.items()}


def answering(names: Collection[str], lost: Lost, step: str) -> list[str]:
    """Return who lives to answer at a step: who is lost at it is never heard again."""
    at = STEPS.index(step)
    return [name for name in names if name not in lost or STEPS.index(lost[name]) > at]


class Costs:
    """Of one instance: bytes and seconds of each client, seconds of the server.

    Bytes are those of the protocol's messages: up with the masked vectors, down without the
    model.
    """

    def __init__(self) -> None:
        self.up: Counter[str] = Counter()
        self.down: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        self.server_seconds = 0.0

    @contextmanager
    def of_client(self, name: str) -> Iterator[None]:
        """Book what is done within as a client's."""
        started = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - started

    @contextmanager
    def of_server(self) -> Iterator[None]:
        """Book what is done within as the server's."""
        started = time.process_time()
        yield
        self.server_seconds += time.process_time() - started


class Round:
    """One instance among all members; `run` takes its steps.

    Parameters
    ----------
    members : mapping of str to Member
        From `enlist`; the server has their floor.
    payload : callable
        Gives a client's vectors by its name; they are masked in place.
    lost : mapping of str to str, optional
        Clients that are lost, and the step that they do not answer any more. At "unmask" it is
        the answer that is lost: the client has given it, and has written that down.
    number : int
        Of the instance.
    degree : int, optional
        Of a sparse graph.
    journals : mapping of str to Journal, optional
        What the clients have answered before.
    """

    def __init__(
        self,
        members: Mapping[str, Member],
        payload: Payload,
        lost: Lost | None = None,
        *,
        number: int = 1,
        degree: int | None = None,
        journals: Mapping[str, Journal] | None = None,
    ) -> None:
        first = next(iter(members.values()))
        self.server = ServerInstance(first.session, number, first.floor, degree=degree)
        self.costs = Costs()
        self.refusals: list[str] = []
        self._members, self._payload, self._lost = members, payload, lost or {}
        self._number, self._degree = number, degree
        self._journals = journals or {name: Journal(None) for name in members}
        self._at_rest: dict[str, bytes] = {}
        self._released: Counter[tuple[str, str]] = Counter()

    def run(self) -> list[Vector]:
        """Return the sums over the survivors.

        Raises
        ------
        ProtocolError
            If too few clients are left at some step.
        """
        self._keys()
        self._shares()
        self._vectors()
        if not self.server.can_unmask:
            raise ProtocolError("too few clients survived to take the masks off")
        self._signatures()
        if not self.server.signed:
            raise ProtocolError("too few clients signed the list of survivors")
        self._unmask()
        with self.costs.of_server():
            return self.server.unmask()

    @property
    def exposed(self) -> int:
        """The most shares of any one secret that reached the server."""
        return max(self._released.values(), default=0)

    # --- Steps ------------------------------------------------------------------------------

    def _keys(self) -> None:
        for name in answering(self._members, self._lost, "keys"):
            with self.costs.of_client(name):
                client = ClientInstance(self._members[name], self._number, degree=self._degree)
                reply = encode(client.begin())
                self._at_rest[name] = client.to_bytes()
            self.costs.up[name] += len(reply)
            with self.costs.of_server():
                self.server.add_keys(name, decode(reply, KeysReply))

    def _shares(self) -> None:
        with self.costs.of_server():
            requests = encode_each(self.server.announce())
        for name in answering(requests, self._lost, "shares"):
            reply = self._ask(
                name, requests[name], lambda c, _, r: encode(c.share(decode(r, SharesRequest)))
            )
            with self.costs.of_server():
                if reply is not None:
                    self.server.add_shares(name, decode(reply, SharesReply))

    def _vectors(self) -> None:
        with self.costs.of_server():
            requests = encode_each(self.server.begin_sum(TOLD))
        for name in answering(requests, self._lost, "vectors"):
            self._vector(name, requests[name])

    def _vector(self, name: str, asked: bytes) -> None:
        vectors = self._payload(name)

        def mask(client: ClientInstance, _: Journal, raw: bytes) -> bytes:
            client.mask(decode(raw, MaskRequest), vectors, transcript=TOLD, bases=BASES)
            return b"".join(vector.tobytes() for vector in vectors)

        reply = self._ask(name, asked, mask)
        with self.costs.of_server():
            if reply is not None:
                self.server.add_vectors(name, vectors)

    def _signatures(self) -> None:
        with self.costs.of_server():
            requests = encode_each(self.server.sign_requests())
        for name in answering(requests, self._lost, "signatures"):
            reply = self._ask(
                name, requests[name], lambda c, j, r: encode(c.sign(decode(r, SignRequest), j))
            )
            with self.costs.of_server():
                if reply is not None:
                    self.server.add_signature(name, decode(reply, SignReply))

    def _unmask(self) -> None:
        with self.costs.of_server():
            requests = encode_each(self.server.unmask_requests())
        for name in answering(requests, self._lost, "signatures"):
            reply = self._ask(
                name, requests[name], lambda c, j, r: encode(c.release(decode(r, UnmaskRequest), j))
            )
            with self.costs.of_server():
                if reply is not None and name not in self._lost:
                    self._take_release(name, decode(reply, UnmaskReply))

    def _take_release(self, name: str, reply: UnmaskReply) -> None:
        self._released.update(("seed", of) for of in reply.seeds)
        self._released.update(("mask key", of) for of in reply.mask_keys)
        self.server.add_release(name, reply)

    def _ask(self, name: str, asked: bytes, act: Act) -> bytes | None:
        """Have a client act on a message; return its reply as bytes, None where it refuses."""
        self.costs.down[name] += len(asked)
        with self.costs.of_client(name):
            client = ClientInstance.from_bytes(self._members[name], self._at_rest[name])
            try:
                reply = act(client, self._journals[name], asked)
            except ProtocolError as error:
                self.refusals.append(str(error))
                return None
            finally:
                self._at_rest[name] = client.to_bytes()
        self.costs.up[name] += len(reply)
        return reply
