"""An aggregator whose sites report nothing but models: private runs, and sealed relays.

A site introduces itself by name. Nobody validates; the last model is the result.
"""

from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.data.statistics import PixelSums
from primia_flwr.errors import ProtocolError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages import relay as wire
from primia_flwr.messages.keys import HEADS, LEDGER
from primia_flwr.messages.ledger_heads import LedgerHeads, read_heads
from primia_flwr.runs.history import SiteRow
from primia_flwr.secagg.protocol.parties import Session
from strategies.aggregators.aggregator import Request, Statistics
from strategies.aggregators.introductions import ask_names
from strategies.aggregators.plain import PlainAggregator
from strategies.aggregators.reply_validator import (
    ReplyValidator,
    ValidatedReply,
    rejected_row,
)


class SilentSites(PlainAggregator):
    """Keeps the heads of privacy ledgers, beside what the next class does with models.

    Parameters
    ----------
    *args, **described
        As the next class.
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
        described.update(experiment=experiment, folder=folder)
        super().__init__(*args, **described)
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

    def _validated(self, request: Request, site: str, reply: Message) -> ValidatedReply:
        try:
            self._learn(reply)
        except ProtocolError as error:
            return ValidatedReply(rejected_row(request.server_round, site, error))
        return super()._validated(request, site, reply)

    def _tell_heads(self, config: ConfigRecord) -> None:
        """Add the newest heads of all ledgers to what a site is told."""
        if self._heads:
            config[HEADS] = self._heads.to_text()

    def _learn(self, reply: Message) -> None:
        """Keep the heads of ledgers that a reply brings."""
        if self._heads and reply.has_content() and LEDGER in reply.content.config_records:
            self._heads.learn(read_heads(reply.content.config_records[LEDGER].get(HEADS)))


def relay_query(node: int, parts: dict[str, bytes]) -> Message:
    """Return a message that carries nothing but steps of the relay."""
    content = RecordDict({wire.RELAY: ConfigRecord(dict(parts))})
    return Message(content, node, wire.QUERY, group_id=wire.RELAY)
