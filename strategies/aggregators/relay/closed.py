"""A relay whose sites report nothing but their models: private runs, and sealed ones.

A site introduces itself by name. Nobody validates; the last model is the result.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.data.statistics import PixelSums
from primia_flwr.flower.roster_grid import Answer, RosterGrid
from primia_flwr.messages import relay as wire
from primia_flwr.messages.keys import CONFIG, HEADS, LEDGER
from primia_flwr.messages.ledger_heads import LedgerHeads, read_heads
from primia_flwr.runs.history import LATE, SiteRow
from primia_flwr.secagg.protocol.parties import Session
from strategies.aggregators.aggregator import Outcome, Request, Statistics
from strategies.aggregators.introductions import ask_names
from strategies.aggregators.relay.aggregator import RelayAggregator
from strategies.aggregators.relay.cycle import Cycle
from strategies.aggregators.reply_validator import ReplyValidator, ValidatedReply, checked


class ClosedRelay(RelayAggregator):
    """Hands on models and the heads of privacy ledgers.

    Parameters
    ----------
    *args, **described
        As `RelayAggregator`.
    experiment : Experiment
        The run's.
    session : Session
        The run and the identities of its sites.
    folder : Path, optional
        The run's.
    """

    def __init__(
        self,
        *args: Any,
        experiment: Experiment,
        session: Session,
        folder: Path | None = None,
        **described: Any,
    ) -> None:
        super().__init__(*args, experiment=experiment, folder=folder, **described)
        self._session = session
        self._known: set[str] = set()
        self._heads = LedgerHeads.of(experiment, session, folder)
        self._validator = ReplyValidator(
            described["sent"].form, task=self.task, outputs=self.outputs, reports=False
        )

    def introduce(
        self, grid: RosterGrid, nodes: list[int], *, timeout: float, enough: int = 0
    ) -> dict[int, SiteRow | None]:
        """Ask nodes for their names."""
        messages = {node: relay_query(node, {}) for node in nodes}
        return ask_names(grid, messages, self._known.add, timeout=timeout, enough=enough)

    def statistics(self, grid: RosterGrid, *, timeout: float) -> Statistics:
        """Return none: no site tells any."""
        return Statistics(PixelSums(0, (), (), (), ()), 0)

    def sites(self) -> list[dict[str, Any]]:
        """Return the names of the sites: nothing else is known of them."""
        return [{"site": name} for name in sorted(self._known)]

    def _verdict(self, request: Request, grid: RosterGrid) -> Outcome:
        return Outcome()

    def _message(self, cycle: Cycle, node: int, site: str, request: Request) -> Message:
        """Return what asks a site to train, the newest heads of all ledgers in it."""
        message = super()._message(cycle, node, site, request)
        if self._heads:
            message.content.config_records[CONFIG][HEADS] = self._heads.to_text()
        return message

    def _validated(self, request: Request, site: str, reply: Message) -> ValidatedReply:
        self._learn(reply)
        return super()._validated(request, site, reply)

    def _ask(
        self,
        grid: RosterGrid,
        message: Message,
        request: Request,
        site: str,
        take: Callable[[Message], None],
    ) -> SiteRow | None:
        """Ask one site; return a row only where it gives no good answer."""
        number = request.server_round
        late = SiteRow(number, site, LATE, f"no answer within {request.timeout:g} s")
        rows: list[SiteRow | None] = []

        def on_answer(answer: Answer) -> None:
            self._learn(answer.message)
            self._note_link(site, answer.message)
            rows.append(checked(number, site, answer.message, lambda: take(answer.message)))

        grid.ask([message], timeout=request.timeout, on_answer=on_answer)
        return rows[0] if rows else late

    def _learn(self, reply: Message) -> None:
        """Keep the heads of ledgers that a reply brings."""
        if self._heads and reply.has_content() and LEDGER in reply.content.config_records:
            self._heads.learn(read_heads(reply.content.config_records[LEDGER].get(HEADS)))


def relay_query(node: int, parts: dict[str, bytes]) -> Message:
    """Return a message that carries nothing but steps of the relay."""
    content = RecordDict({wire.RELAY: ConfigRecord(dict(parts))})
    return Message(content, node, wire.QUERY, group_id=wire.RELAY)
