"""The sealed relay: the coordinator carries models that it cannot read.

Each site seals its model for the next one (`primia_flwr.secagg.protocol.hop`). If that one does not
answer, the site that holds the model seals it for another. Source: Phong and Phuong 2019, the
server-aided system, https://doi.org/10.1109/TIFS.2019.2911169
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flwr.app import ArrayRecord, Message, RecordDict

from primia_flwr.errors import FederationError, ProtocolError
from primia_flwr.flower.roster_grid import Answer, RosterGrid
from primia_flwr.messages import relay as wire
from primia_flwr.messages.held import held
from primia_flwr.messages.keys import ARRAYS
from primia_flwr.messages.records import num_bytes
from primia_flwr.runs.checkpoint import ArrayMap
from primia_flwr.runs.history import FAILED, LATE, OK, SiteRow
from primia_flwr.secagg.protocol.hop import HopKey
from primia_flwr.secagg.protocol.wire import KeysRequest, RelayHop, encode
from strategies.aggregators.aggregator import OnRow, Outcome, Request
from strategies.aggregators.relay.closed import ClosedRelay
from strategies.aggregators.relay.cycle import Cycle, order_of
from strategies.aggregators.reply_validator import checked
from strategies.aggregators.silent_sites import relay_query

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Blob:
    """A sealed model: from whom, for whom, and before how many had trained in the cycle."""

    sender: str
    receiver: str
    position: int
    sealed: bytes


class SealedRelay(ClosedRelay):
    """Carries sealed models; of a cycle it knows who has trained."""

    _keys: Mapping[str, bytes]
    _blob: _Blob | None = None
    _lost = ""

    def train(self, request: Request, grid: RosterGrid, on_row: OnRow) -> Outcome:
        """Collect the keys of the cycle and carry the model from site to site."""
        self._lost, self._blob = "", None
        self._nodes = {grid.name_of(node): node for node in grid.get_node_ids()}
        self._keys, self._silent = self._ask_keys(request, grid)
        outcome = super().train(request, grid, on_row)
        if self._lost:
            return self._waiting_for_holder(outcome, request.server_round)
        last = request.server_round == self._experiment.federation.rounds
        if outcome.arrays is None or not last:
            return outcome
        if self._experiment.aggregation.withheld:
            return self._hand_out(outcome, request, grid)
        return self._end(outcome, request, grid)

    def _cycle(self, request: Request) -> Cycle:
        """Return the cycle; its first site gets the model from the last one of the cycle before."""
        known, number = self._log.newest(request.arrays), request.server_round
        begun = super()._cycle(request)
        if number == 1 or begun is known:
            return begun
        if known is None or known.number != number - 1:
            raise FederationError(
                f"which site holds the model of cycle {number - 1} is not known here; expected "
                "checkpoints/cycle in the run's folder; start the run again without resume"
            )
        return replace(begun, holder=known.holder)

    def _ask_keys(
        self, request: Request, grid: RosterGrid
    ) -> tuple[dict[str, bytes], dict[str, SiteRow]]:
        """Ask all selected sites for their keys of the cycle; rows of those that give none."""
        number, found = request.server_round, dict[str, bytes]()
        late = f"no key within {request.timeout:g} s"
        rows: dict[str, SiteRow | None] = {
            site: SiteRow(number, site, LATE, late) for site in self._nodes
        }

        def on_answer(answer: Answer) -> None:
            site = grid.name_of(answer.node)
            rows[site] = checked(number, site, answer.message, lambda: take(site, answer.message))

        def take(site: str, reply: Message) -> None:
            raw = wire.relay_part(reply.content, wire.KEYS) or b""
            HopKey.from_bytes(raw).verify(self._session, cycle=number, site=site)
            found[site] = raw

        asked = {wire.KEYS: encode(KeysRequest(number))}
        messages = [relay_query(node, asked) for node in self._nodes.values()]
        grid.ask(messages, timeout=request.timeout, on_answer=on_answer)
        return found, {site: row for site, row in rows.items() if row is not None}

    def _visit(
        self, cycle: Cycle, node: int, request: Request, grid: RosterGrid, on_row: OnRow
    ) -> None:
        """Have one site train the model that was sealed for it."""
        site, position = grid.name_of(node), len(cycle.trained)
        if self._lost:
            return
        if site in self._silent:
            cycle.rows[site] = self._silent[site]
            return on_row(cycle.rows[site])
        if cycle.holder not in ("", site) and not self._is_sealed_for(cycle, site, request, grid):
            self._lost = cycle.holder
            return None
        following, started = self._following(cycle, site), time.monotonic()
        message = self._hop(cycle, node, request, site, following)
        clear = message.content.array_records
        size = sum(num_bytes(clear[key]) for key in (ARRAYS, wire.FIRST) if key in clear)
        cycle.bytes_down += size + (len(self._blob.sealed) if self._blob else 0)
        blob: list[bytes] = []

        def take(reply: Message) -> None:
            blob.append(wire.sealed_bytes(reply.content))
            if bool(blob[0]) != bool(following):
                raise ProtocolError(
                    f"{len(blob[0])} sealed bytes for {following or 'nobody'}; expected a model "
                    "for the next site, and none where there is none"
                )

        row = self._ask(grid, message, request, site, take)
        cycle.rows[site] = row or SiteRow(cycle.number, site, OK)
        if row is None:
            cycle.holder = site
            self._sign(cycle, site)
            self._blob = _Blob(site, following, position + 1, blob[0])
            cycle.bytes_up += len(blob[0])
        cycle.training_seconds += time.monotonic() - started
        return on_row(cycle.rows[site])

    def _following(self, cycle: Cycle, site: str) -> str:
        """Return who comes next, as far as is known now; nobody after the last."""
        order = order_of(self._experiment, cycle.number)
        later = order[order.index(site) + 1 :]
        able = [name for name in later if name in self._keys and not cycle.has(name)]
        return able[0] if able else ""

    def _hop(self, cycle: Cycle, node: int, request: Request, site: str, following: str) -> Message:
        message = self._message(cycle, node, site, request)
        hop = RelayHop(
            cycle.number,
            len(cycle.trained),
            cycle.holder,
            following,
            self._keys_of(cycle.holder, following, but=site),
        )
        frozen = {k: v for k, v in cycle.model.items() if k not in self._dtypes}
        parts: dict[str, Any] = {
            ARRAYS: held(frozen if cycle.holder else cycle.model),
            wire.RELAY: relay_query(node, {wire.HOP: encode(hop)}).content[wire.RELAY],
        }
        if cycle.holder not in ("", site) and self._blob:
            parts[wire.SEALED] = wire.sealed_record(self._blob.sealed)
        message.content = RecordDict({**message.content, **parts})
        message.metadata.group_id = str(cycle.number)
        return message

    def _keys_of(self, *names: str, but: str) -> dict[str, bytes]:
        return {name: self._keys[name] for name in names if name not in ("", but)}

    def _is_sealed_for(self, cycle: Cycle, site: str, request: Request, grid: RosterGrid) -> bool:
        """See that the newest model is sealed for a site; its holder seals it anew if need be."""
        position, blob = len(cycle.trained), self._blob
        wanted = (cycle.holder, site, position)
        if blob and (blob.sender, blob.receiver, blob.position) == wanted:
            return True
        found: list[bytes] = []

        def take(reply: Message) -> None:
            found.append(wire.sealed_bytes(reply.content))

        if cycle.holder not in self._keys:
            return False
        keys = {site: self._keys[site]}
        hop = RelayHop(cycle.number, position, cycle.holder, site, keys)
        message = relay_query(self._nodes[cycle.holder], {wire.HOP: encode(hop)})
        if self._ask(grid, message, request, cycle.holder, take) or not found[0]:
            return False
        cycle.bytes_up += len(found[0])
        self._blob = _Blob(*wanted, found[0])
        return True

    def _waiting_for_holder(self, outcome: Outcome, number: int) -> Outcome:
        """Say that nothing goes on without the site that holds the newest model."""
        why = "holds the newest model, and does not hand it on"
        rows = {row.site: row for row in outcome.rows}
        rows[self._lost] = SiteRow(number, self._lost, FAILED, why)
        return replace(
            outcome, arrays=None, rows=[rows[site] for site in sorted(rows)], wait_for=[self._lost]
        )

    def _hand_out(self, outcome: Outcome, request: Request, grid: RosterGrid) -> Outcome:
        """Have each site save the last model, which is sealed for it."""
        cycle = self._cycle(request)
        frozen = {k: v for k, v in cycle.model.items() if k not in self._dtypes}
        for site in sorted(self._keys):
            if site != cycle.holder and not self._is_sealed_for(cycle, site, request, grid):
                self._lost = cycle.holder
                return self._waiting_for_holder(outcome, request.server_round)
            keys = self._keys_of(cycle.holder, but=site)
            hop = RelayHop(cycle.number, len(cycle.trained), cycle.holder, site, keys)
            message = relay_query(self._nodes[site], {wire.HOP: encode(hop)})
            parts = {ARRAYS: held(frozen)}
            if site != cycle.holder and self._blob:
                parts[wire.SEALED] = wire.sealed_record(self._blob.sealed)
            message.content = RecordDict({**message.content, **parts})
            row = self._ask(grid, message, request, site, lambda reply: None)
            if row is not None:
                logger.warning("%s has not saved the last model: %s", site, row.reason)
        return outcome

    def _end(self, outcome: Outcome, request: Request, grid: RosterGrid) -> Outcome:
        """Take the last model, where the run says that the coordinator gets it."""
        holder = self._cycle(request).holder
        got: list[ArrayMap] = []

        def take(reply: Message) -> None:
            arrays = reply.content.array_records.get(ARRAYS, ArrayRecord())
            got.append(self._validator.arrays(arrays))

        hop = RelayHop(request.server_round, 0, holder, "", {})
        node = self._nodes.get(holder, 0)
        if self._ask(grid, relay_query(node, {wire.HOP: encode(hop)}), request, holder, take):
            self._lost = holder
            return self._waiting_for_holder(outcome, request.server_round)
        outcome.bytes_up += sum(array.nbytes for array in got[0].values())
        return replace(outcome, arrays={**request.arrays, **got[0]})
