"""The relay: a round is a cycle, in which one site after the other trains the newest model.

The answer of a site is the model of the next one; nothing is averaged, buffers of normalisation
layers neither. A site that is away, fails or declines is skipped, and has its row. Source: Chang
et al. 2018, https://doi.org/10.1093/jamia/ocy017
"""

from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp.strategy import Strategy

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages.held import held
from primia_flwr.messages.keys import CONFIG, ROUND
from primia_flwr.messages.relay import FIRST, LINEAGE, LINK
from primia_flwr.runs.checkpoint import ArrayMap
from primia_flwr.runs.history import EVALUATED
from primia_flwr.secagg.protocol.wire import RelayLineage, encode
from strategies.aggregators.aggregator import OnRow, Outcome, Request
from strategies.aggregators.plain import PlainAggregator
from strategies.aggregators.relay.cycle import Cycle, CycleLog, mean_loss, order_of
from strategies.aggregators.reply_validator import ValidatedReply


class RelayAggregator(PlainAggregator):
    """Has the sites train one after the other.

    Parameters
    ----------
    strategy, model, *args, **described
        As `PlainAggregator`.
    experiment : Experiment
        Says the order of the sites.
    folder : Path, optional
        The run's, where the position in the cycle is kept.
    """

    def __init__(
        self,
        strategy: Strategy,
        model: ArrayMap,
        *args: Any,
        experiment: Experiment,
        folder: Path | None = None,
        **described: Any,
    ) -> None:
        super().__init__(strategy, model, *args, **described)
        self._experiment, self._first = experiment, model
        self._log = CycleLog(folder, experiment)
        self._signed: dict[str, str] = {}

    def train(self, request: Request, grid: RosterGrid, on_row: OnRow) -> Outcome:
        """Hand the model from site to site; the last site's is the round's.

        A round that is repeated, or gone on with, asks those that have not answered well.
        """
        outcome = self._verdict(request, grid)
        cycle = self._cycle(request)
        if self._recording and not cycle.holder:
            self._recording.begin(request.server_round, request.arrays)
        nodes = {grid.name_of(node): node for node in grid.get_node_ids()}
        for site in order_of(self._experiment, cycle.number):
            if site in nodes and not cycle.has(site):
                self._visit(cycle, nodes[site], request, grid, on_row)
                self._log.save(cycle)
        return self._finished(cycle, request, outcome)

    def _cycle(self, request: Request) -> Cycle:
        """Return the cycle of a round, as far as it has come."""
        known, number = self._log.newest(request.arrays), request.server_round
        if known is not None and known.number == number:
            return known
        before = known if known is not None and known.number == number - 1 else Cycle(0, {})
        return Cycle(number, dict(request.arrays), links=dict(before.links))

    def _verdict(self, request: Request, grid: RosterGrid) -> Outcome:
        """Have all sites validate the model that the cycle begins with, at the same time."""
        if request.server_round == 1:  # nobody has trained the first weights
            return Outcome()
        found = self.evaluate(request, grid, lambda row: None)
        return Outcome(
            validation=found.validation,
            validations=found.validations,
            bytes_up=found.bytes_up,
            bytes_down=found.bytes_down,
        )

    def _visit(
        self, cycle: Cycle, node: int, request: Request, grid: RosterGrid, on_row: OnRow
    ) -> None:
        """Have one site train the newest model; take its model where it sends a good one."""
        message, self._before = (
            self._message(cycle, node, grid.name_of(node), request),
            cycle.holder,
        )
        outcome, updates = self._send([message], held(cycle.model), request, grid, on_row)
        for update in updates:
            cycle.model = {**cycle.model, **update.arrays}
            cycle.holder = update.site
            self._sign(cycle, update.site)
        cycle.rows |= {row.site: row for row in outcome.rows}
        cycle.bytes_up += outcome.bytes_up
        cycle.bytes_down += outcome.bytes_down
        cycle.images += outcome.images
        cycle.training_seconds += outcome.training_seconds

    def _message(self, cycle: Cycle, node: int, site: str, request: Request) -> Message:
        """Return what asks a site to train, without the model."""
        links = {name: bytes.fromhex(raw) for name, raw in cycle.links.items()}
        told = {**request.config, ROUND: cycle.number, LINEAGE: encode(RelayLineage(links))}
        records: dict[str, Any] = {CONFIG: ConfigRecord(told), **self._for_a_newcomer(cycle, site)}
        return Message(RecordDict(records), node, MessageType.TRAIN)

    def _for_a_newcomer(self, cycle: Cycle, site: str) -> dict[str, ArrayRecord]:
        """Return the first weights for a real site that gets a trained model before it trains.

        It compares them with those that it draws itself, which its processor may round otherwise.
        """
        began = any(name.endswith(f" {site}") for name in cycle.links)
        known = began or not cycle.links or not self._real_sites
        return {} if known else {FIRST: held(self._first)}

    @property
    def _real_sites(self) -> bool:
        return self._experiment.deployment.kind != "simulation"

    def _validated(self, request: Request, site: str, reply: Message) -> ValidatedReply:
        self._note_link(site, reply)
        return super()._validated(request, site, reply)

    def _note_link(self, site: str, reply: Message) -> None:
        """Keep what a site has signed of its training until it counts."""
        records = reply.content.config_records if reply.has_content() else {}
        raw = records[LINEAGE].get(LINK) if LINEAGE in records else None
        self._signed[site] = raw.hex() if isinstance(raw, bytes) else ""

    def _sign(self, cycle: Cycle, site: str) -> None:
        """Add a site's link to those of the cycle."""
        if self._signed.get(site):
            cycle.links[f"{len(cycle.links):06d} {site}"] = self._signed.pop(site)

    def _finished(self, cycle: Cycle, request: Request, outcome: Outcome) -> Outcome:
        """Say what the cycle brought; its model, if enough sites have trained."""
        outcome.rows = [cycle.rows[site] for site in sorted(cycle.rows)]
        outcome.resting = outcome.count(EVALUATED)
        outcome.bytes_up += cycle.bytes_up
        outcome.bytes_down += cycle.bytes_down
        outcome.images, outcome.training_seconds = cycle.images, cycle.training_seconds
        if len(cycle.trained) >= request.min_updates:
            outcome.arrays, outcome.train_loss = cycle.model, mean_loss(cycle.trained)
        return outcome
