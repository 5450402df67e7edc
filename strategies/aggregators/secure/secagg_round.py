"""The messages of one secure sum: who is asked what, and what became of each site."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from primia_flwr.errors import ProtocolError
from primia_flwr.flower.roster_grid import Answer, RosterGrid
from primia_flwr.messages import secure as wire
from primia_flwr.messages.keys import HEADS, LEDGER
from primia_flwr.messages.ledger_heads import LedgerHead, read_heads
from primia_flwr.messages.records import num_bytes
from primia_flwr.runs.history import FAILED, LATE, OK, SiteRow
from primia_flwr.runs.recording import Recording
from primia_flwr.runs.sum_log import SumLog
from primia_flwr.secagg.payload.layout import Layout
from primia_flwr.secagg.protocol.server import ServerInstance
from primia_flwr.secagg.protocol.wire import (
    KeysReply,
    KeysRequest,
    SharesReply,
    SignReply,
    UnmaskReply,
    decode,
    encode,
    encode_each,
)
from strategies.aggregators.aggregator import OnRow
from strategies.aggregators.reply_validator import checked

_QUERY = f"{MessageType.QUERY}.{wire.ROUTE}"
_Parts = dict[str, bytes]
_Sums = dict[str, list[float]]


@dataclass
class Summed:
    """What one instance gave: the mean update and the sums of the numbers, or neither.

    `survivors`: the sites in it. `declined`: sites whose numbers were out of range, so that there
    is no sum. `rows`: what became of each site, by name. `reason`: why there is no sum. `wait_for`:
    sites without which there can be none. `seconds`: by step. `heads`: of privacy ledgers,
    unverified.
    """

    mean: Any = None
    sums: _Sums = field(default_factory=dict)
    survivors: list[str] = field(default_factory=list)
    declined: int = 0
    rows: dict[str, SiteRow] = field(default_factory=dict)
    reason: str = ""
    wait_for: list[str] = field(default_factory=list)
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    heads: list[LedgerHead] = field(default_factory=list)


class SecAggRound:
    """The messages of one sum, and what became of each site.

    With `only`, the selected sites of these names take part and no others. `recording` keeps the
    masked updates as they come.
    """

    def __init__(
        self,
        server_round: int,
        grid: RosterGrid,
        timeout: float,
        on_row: OnRow,
        log: SumLog | None = None,
        only: Collection[str] = (),
        recording: Recording | None = None,
    ) -> None:
        self.server_round, self._grid = server_round, grid
        self._timeout, self._on_row = timeout, on_row
        self._log, self._recording = log, recording
        nodes = {grid.name_of(node): node for node in grid.get_node_ids()}
        self._nodes = {name: node for name, node in nodes.items() if name in (only or nodes)}
        self.found = Summed()

    @property
    def present(self) -> list[str]:
        """The selected sites."""
        return sorted(self._nodes)

    def keys(self, instance: ServerInstance) -> None:
        """Ask all for keys."""
        request = {wire.KEYS: encode(KeysRequest(instance.number))}
        self._ask(
            "keys",
            instance,
            {name: query(node, request) for name, node in self._nodes.items()},
            lambda name, reply: _take_keys(instance, name, _parts_of(reply)),
        )

    def vectors(
        self,
        current: ServerInstance,
        following: ServerInstance,
        requests: Mapping[str, Any],
        message_type: str,
        content: RecordDict,
        layout: Layout,
    ) -> None:
        """Send the round to the members of U2; ask everybody for keys of the next instance."""
        keys = {wire.KEYS: encode(KeysRequest(following.number))}
        messages = {}
        for name, node in self._nodes.items():
            if name not in requests:
                messages[name] = query(node, keys)
                continue
            parts = ConfigRecord({wire.MASK: encode(requests[name]), **keys})
            records = RecordDict({**content, wire.SECAGG: parts})
            messages[name] = Message(records, node, message_type, group_id=str(self.server_round))

        def take(name: str, reply: Message) -> None:
            if name in requests:
                masked = reply.content.array_records.get(wire.MASKED, ArrayRecord())
                vectors = wire.unpack_vectors(masked, layout)
                if self._recording:
                    self._recording.masked(self.server_round, name, vectors)
                current.add_vectors(name, vectors)
                self.found.heads += _heads_of(reply)
            _take_keys(following, name, _parts_of(reply))

        self._ask("vectors", current, messages, take)
        for name in current.dropped:
            self._missing(name, "offline" if name not in self._nodes else "")

    def signatures(self, current: ServerInstance) -> None:
        """Collect signatures on the list of survivors."""
        requests = encode_each(current.sign_requests())
        self._ask(
            "signatures",
            current,
            {name: query(self._nodes[name], {wire.SIGN: raw}) for name, raw in requests.items()},
            lambda name, reply: current.add_signature(
                name, decode(_parts_of(reply)[wire.SIGN], SignReply)
            ),
            keep_rows=True,
        )

    def shares(self, current: ServerInstance | None, following: ServerInstance) -> None:
        """Collect the survivors' shares, and everybody's sealed shares for the next instance."""
        enough = len(following.with_keys) >= following.floor.min_survivors
        sealed = encode_each(following.announce()) if enough else {}
        unmask = encode_each(current.unmask_requests()) if current else {}
        asked, messages = {wire.UNMASK: unmask, wire.SHARES: sealed}, {}
        for name, node in self._nodes.items():
            parts: _Parts = {key: each[name] for key, each in asked.items() if name in each}
            if parts:
                messages[name] = query(node, parts)

        def take(name: str, reply: Message) -> None:
            parts = _parts_of(reply)
            if wire.UNMASK in parts and current:
                current.add_release(name, decode(parts[wire.UNMASK], UnmaskReply))
            if wire.SHARES in parts and sealed:
                following.add_shares(name, decode(parts[wire.SHARES], SharesReply))

        self._ask("shares", current or following, messages, take, keep_rows=True)

    def gave_up(self, reason: str) -> None:
        """Book that there is no sum, and why."""
        for name in self.present:
            row = self.found.rows.get(name)
            if row is None or row.good:
                self.found.rows[name] = SiteRow(self.server_round, name, FAILED, reason)
        self.found.mean, self.found.sums, self.found.reason = None, {}, reason

    def settle(self, survivors: Collection[str], selected: Collection[str]) -> None:
        """Book who is in the sum, whatever they did afterwards, and that the others are not."""
        for name in sorted(selected):
            row = self.found.rows.get(name)
            if name in survivors:
                if row is None or not row.good:
                    then = "" if row is None else f"in the sum; then {row.status}: {row.reason}"
                    self.found.rows[name] = SiteRow(self.server_round, name, OK, then)
            elif row is None:
                text = "not asked: with it, sites would answer lists that tell too few apart"
                self.found.rows[name] = SiteRow(self.server_round, name, FAILED, text)
            elif row.good:
                text = "not in the sum: it had no keys for it yet"
                self.found.rows[name] = SiteRow(self.server_round, name, FAILED, text)

    def _ask(
        self,
        step: str,
        instance: ServerInstance,
        messages: Mapping[str, Message],
        take: Callable[[str, Message], None],
        *,
        keep_rows: bool = False,
    ) -> None:
        """Send, and take what comes; who answers amiss or not at all gets a row that says so."""
        heard: set[str] = set()

        def on_answer(answer: Answer) -> None:
            name, reply = self._grid.name_of(answer.node), answer.message
            heard.add(name)
            self.found.bytes_up += _bytes(reply)
            row = checked(self.server_round, name, reply, lambda: take(name, reply))
            known = self.found.rows.get(name)
            if row is None and keep_rows and known is not None:
                return
            self.found.rows[name] = row or SiteRow(self.server_round, name, OK)
            if not keep_rows:
                self._on_row(self.found.rows[name])

        self.found.bytes_down += sum(_bytes(message) for message in messages.values())
        if self._log:
            self._log.step(
                step,
                server_round=self.server_round,
                instance=instance.number,
                sites=sorted(messages),
            )
        started = time.monotonic()
        self._grid.ask(list(messages.values()), timeout=self._timeout, on_answer=on_answer)
        elapsed = time.monotonic() - started
        self.found.seconds[step] = round(self.found.seconds.get(step, 0.0) + elapsed, 3)
        for name in sorted(messages.keys() - heard):
            self._missing(name, "")

    def _missing(self, name: str, reason: str) -> None:
        known = self.found.rows.get(name)
        if known is not None and not known.good:
            return
        text = reason or f"no answer within {self._timeout:g} s"
        self.found.rows[name] = SiteRow(self.server_round, name, FAILED if reason else LATE, text)


def _take_keys(instance: ServerInstance, name: str, parts: _Parts) -> None:
    """Give a site's keys to the instance they are for."""
    if wire.KEYS not in parts:
        raise ProtocolError("the reply has no keys; expected those of the next instance")
    instance.add_keys(name, decode(parts[wire.KEYS], KeysReply))


def _parts_of(reply: Message) -> _Parts:
    """Return the protocol's parts of a reply."""
    record = reply.content.config_records.get(wire.SECAGG, ConfigRecord())
    found = {key: wire.part(record, key) for key in record}
    return {key: value for key, value in found.items() if value is not None}


def _heads_of(reply: Message) -> list[LedgerHead]:
    """Return the heads of privacy ledgers that come with a reply; none without such."""
    record = reply.content.config_records.get(LEDGER)
    return [] if record is None else read_heads(record.get(HEADS))


def query(node: int, parts: _Parts) -> Message:
    """Return a message that carries nothing but steps of the protocol."""
    content = RecordDict({wire.SECAGG: ConfigRecord(dict(parts))})
    return Message(content, node, _QUERY, group_id=wire.SECAGG)


def _bytes(message: Message) -> int:
    if not message.has_content():
        return 0
    arrays = sum(num_bytes(record) for record in message.content.array_records.values())
    record = message.content.config_records.get(wire.SECAGG, ConfigRecord())
    return arrays + sum(len(value) for value in record.values() if isinstance(value, bytes))
