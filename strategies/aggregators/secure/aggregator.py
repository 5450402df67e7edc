"""The secure aggregator: the coordinator learns sums over sites, and nothing of a single one.

Each round is an instance of the protocol in `primia_flwr.secagg` with fresh keys. Two messages
a site carry it: the first brings the model and returns the masked vector and the keys for the
round after; the second returns shares for this round and sealed shares for the next. Where a
site dropped out a third one, in between, collects signatures on the list of survivors.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, MessageType, RecordDict
from flwr.serverapp.strategy import Strategy

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.rules import Need
from primia_flwr.data.statistics import PixelSums
from primia_flwr.errors import FederationError, ProtocolError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages import secure as wire
from primia_flwr.messages.held import held
from primia_flwr.messages.keys import ARRAYS, CONFIG, DECLINED, HEADS, STATISTICS, WEIGHT
from primia_flwr.messages.ledger_heads import LedgerHeads
from primia_flwr.pipeline.verify_sums import largest_error
from primia_flwr.processes.children import available_cores
from primia_flwr.provisioning.identities import identity_keys
from primia_flwr.runs.checkpoint import ArrayMap
from primia_flwr.runs.history import SiteRow
from primia_flwr.runs.recording import Recording
from primia_flwr.runs.secure_sums import SumRow
from primia_flwr.runs.sum_log import SumLog
from primia_flwr.runs.unmasked_sums import OpenedSums
from primia_flwr.secagg.payload.layout import Layout
from primia_flwr.secagg.protocol.parties import Session, roster_digest
from primia_flwr.secagg.protocol.server import ServerInstance
from primia_flwr.tasks.task import Evaluation
from strategies.aggregators.aggregator import Aggregator, OnRow, Outcome, Request, Statistics
from strategies.aggregators.introductions import ask_names
from strategies.aggregators.reply_validator import clean
from strategies.aggregators.secure.plausibility import check_plausible
from strategies.aggregators.secure.secagg_round import SecAggRound, Summed, query
from strategies.aggregators.sent_vector import SentModel
from strategies.aggregators.server_step import check_needs, load_moments, moments, move_by_mean

_STATISTICS = f"{MessageType.QUERY}.{STATISTICS}"


class SecureAggregator(Aggregator):
    """Learns of every round the sum over the surviving sites.

    Parameters
    ----------
    strategy : Strategy
        Given one reply, the mean model.
    model : mapping of name to array
        What the sites send of the initial global model: float32 arrays, those that are trained.
    parameters : iterable of str
        Which of them are parameters; the others are buffers, always the weighted mean.
    needs : Need
        What the rule declares; anything but the mean is a `ConfigError`.
    experiment : Experiment
        Decides layouts, floor and session.
    session : Session
        The run and the sites' identity keys.
    outputs : int
        Of the data.
    folder : Path, optional
        The run's, where the facts of each sum are written.
    flower_run : int
        Flower's number of the run.
    sent : SentModel
        What the sites send.
    """

    def __init__(
        self,
        strategy: Strategy,
        model: ArrayMap,
        parameters: Iterable[str],
        *,
        needs: Need,
        experiment: Experiment,
        session: Session,
        outputs: int,
        folder: Path | None = None,
        flower_run: int = 0,
        sent: SentModel,
    ) -> None:
        check_needs(needs)
        self._sent_vector = sent
        self._strategy = strategy
        self._log = SumLog(folder) if folder else None
        self._opened = OpenedSums.of(experiment, folder)
        self._audited = experiment.output_dir if experiment.debug.verify_sums else ""
        self._recording = Recording.of(experiment, folder)
        self._parameters = frozenset(parameters) & model.keys()
        self._sent = tuple(model)
        self._session = session
        self._roster = roster_digest(identity_keys(experiment))
        deployment = experiment.deployment
        # where no gate stands, nobody at a site knows the bundle
        bundle = deployment.bundle if deployment.kind == "deployment" else ""
        self._terms = wire.terms_of(experiment, flower_run=flower_run, bundle=bundle)
        self._floor = wire.floor_of(experiment)
        self._degree = wire.degree_of(experiment)
        # a sparse graph is good only while no more than that many drop out
        least = experiment.federation.min_sites if self._degree else 0
        self._least = max(self._floor.min_survivors, least)
        entries = sum(array.size for array in model.values())
        self._train_layout = wire.report_layout(experiment, entries, outputs)
        self._evaluate_layout = wire.report_layout(experiment, 0, outputs)
        self._statistics_layout = wire.statistics_layout(experiment, outputs)
        self._num_sites = len(experiment.federation.sites)
        self.task, self.outputs = experiment.task, outputs
        self._number = time.time_ns()  # above all numbers of the run before a resume
        self._next = self._new_instance()
        self._known: set[str] = set()
        self._asked_for_all = False
        self._heads = LedgerHeads.of(experiment, session, folder)

    # --- The aggregator -----------------------------------------------------------------------

    def introduce(
        self, grid: RosterGrid, nodes: list[int], *, timeout: float, enough: int = 0
    ) -> dict[int, SiteRow | None]:
        """Ask nodes for their names."""
        messages = {node: query(node, {}) for node in nodes}
        return ask_names(grid, messages, self._known.add, timeout=timeout, enough=enough)

    def statistics(self, grid: RosterGrid, *, timeout: float) -> Statistics:
        """Learn the sums over all selected sites."""
        config = ConfigRecord({HEADS: self._heads.to_text()} if self._heads else {})
        content = RecordDict({CONFIG: config})
        layout = self._statistics_layout
        for _ in range(2):  # the first time for all: who is not in the first sum stays out
            found = self._sum(0, grid, _STATISTICS, content, layout, timeout, _nobody)
            if self._heads:
                self._heads.learn(found.heads)
            if found.sums:
                break
        if not found.sums:
            reasons = "; ".join(f"{r.site}: {r.reason}" for r in found.rows.values() if not r.good)
            raise FederationError(
                f"too few sites took part in the pixel statistics ({reasons}); expected "
                f"min_survivors={self._floor.min_survivors}; see to those sites and start again"
            )
        return Statistics(_pixel_sums(found.sums), int(found.sums["num-val"][0]))

    def sites(self) -> list[dict[str, Any]]:
        """Return the names of the sites: nothing else is known of a single one."""
        return [{"site": name} for name in sorted(self._known)]

    def train(self, request: Request, grid: RosterGrid, on_row: OnRow) -> Outcome:
        """Have the selected sites validate and train; learn the mean of their updates."""
        arrays = held({**request.arrays, **self._sent_vector.beside()})
        messages = self._strategy.configure_train(
            request.server_round, self._own(request.arrays), _copy(request.config), grid
        )
        config = next(iter(messages)).content.config_records[CONFIG]
        if self._heads:
            config[HEADS] = self._heads.to_text()
        self._sent_vector.tell(config, request.server_round)
        content = RecordDict({ARRAYS: arrays, CONFIG: config})
        number, layout = request.server_round, self._train_layout
        if self._recording:
            self._recording.begin(number, request.arrays, sent=self._sent)
        found = self._sum(
            number, grid, MessageType.TRAIN, content, layout, request.timeout, on_row,
            needed=request.min_updates,
        )  # fmt: skip
        if self._heads:
            self._heads.learn(found.heads)
        outcome = self._outcome(found)
        votes = int(found.sums.get("resting", [0])[0])
        outcome.resting = votes
        if found.mean is not None and self._num_sites - votes >= request.min_updates:
            before = {name: request.arrays[name] for name in self._sent}
            mean = self._sent_vector.whole(found.mean, number)
            moved = move_by_mean(self._strategy, number, before, mean, self._parameters)
            outcome.arrays = {**request.arrays, **moved}
            self._sent_vector.finished(number, found.survivors, before, moved)
            if "weighted-train-loss" in found.sums:
                outcome.train_loss = found.sums["weighted-train-loss"][0] / found.sums[WEIGHT][0]
        return outcome

    def evaluate(self, request: Request, grid: RosterGrid, on_row: OnRow) -> Outcome:
        """Have the selected sites validate a model; learn the sums."""
        config = _copy(request.config)
        config["server-round"] = request.server_round
        content = RecordDict({ARRAYS: held(request.arrays), CONFIG: config})
        found = self._sum(
            request.server_round, grid, MessageType.EVALUATE, content, self._evaluate_layout,
            request.timeout, on_row, needed=request.min_updates,
        )  # fmt: skip
        return self._outcome(found)

    def state(self) -> ArrayMap:
        """Return the server optimiser's moments, and what was sent."""
        return moments(self._strategy) | self._sent_vector.state()

    def load_state(self, state: ArrayMap) -> None:
        """Put them back."""
        load_moments(self._strategy, state)
        self._sent_vector.load_state(state)

    # --- One instance -----------------------------------------------------------------------

    def _sum(
        self,
        server_round: int,
        grid: RosterGrid,
        message_type: str,
        content: RecordDict,
        layout: Layout,
        timeout: float,
        on_row: OnRow,
        *,
        needed: int = 0,
    ) -> Summed:
        """Learn the sum over the selected sites; prepare the next instance on the way."""
        kind = message_type.rpartition(".")[2]
        base = wire.model_digest(content.array_records.get(ARRAYS, ArrayRecord()))
        before = self._opened.sites(kind, server_round, self._roster, base)
        recording = self._recording if layout.entries else None
        present = [grid.name_of(node) for node in grid.get_node_ids()]
        safe = self._opened.largest_safe(present, self._roster)
        only = before or safe or self._opened.newest(self._roster)
        needed = max(needed, self._least, len(before), self._all_at_first(present))
        awaited = before or (self._opened.newest(self._roster) if len(safe) < needed else [])
        missing = sorted(set(awaited) - set(present))
        secagg_round = SecAggRound(
            server_round, grid, timeout, on_row, self._log,
            only=present if missing else only, recording=recording,
        )  # fmt: skip
        current = self._next if missing else self._ready_instance(secagg_round, needed)
        try:
            if missing:
                secagg_round.found.wait_for = awaited
                raise ProtocolError(
                    f"sums were given over {', '.join(awaited)} before, and sites answer no list "
                    "from whose difference few of them follow; waiting for "
                    f"{', '.join(missing)}"
                )
            transcript = wire.transcript_hash(
                base, content, layout, message_type, terms=self._terms
            )
            requests = current.begin_sum(transcript)
            self._next = self._new_instance()
            secagg_round.vectors(current, self._next, requests, message_type, content, layout)
            self._unmask(secagg_round, current, layout, needed, kind, base)
            secagg_round.settle(current.survivors, present)
            secagg_round.found.survivors = list(current.survivors)
        except ProtocolError as error:
            secagg_round.gave_up(clean(str(error)))
        self._keep(kind, secagg_round, current, layout)
        return secagg_round.found

    def _keep(
        self, kind: str, secagg_round: SecAggRound, current: ServerInstance, layout: Layout
    ) -> None:
        """Write down what a sum has opened, where it is recorded, and its row in the log."""
        mean, number = secagg_round.found.mean, secagg_round.server_round
        if self._recording and layout.entries and mean is not None:
            whole = self._sent_vector.whole(mean, number)
            self._recording.opened(number, whole, current.survivors)
        if self._log:
            row = _row(kind, secagg_round, current, layout)
            if self._audited and mean is not None:
                row.audit_error = largest_error(Path(self._audited), current.survivors, mean)
            self._log.add(row)

    def _unmask(
        self,
        secagg_round: SecAggRound,
        current: ServerInstance,
        layout: Layout,
        needed: int,
        kind: str,
        base: bytes,
    ) -> None:
        """Take the masks off the sum of the vectors, where enough sites are left."""
        heard = list(current.survivors)
        good = len(heard) >= needed and current.can_unmask
        if good and heard != self._opened.largest_safe(heard, self._roster):
            secagg_round.found.wait_for = self._opened.newest(self._roster)
            good = False
        if good and current.dropped:
            secagg_round.signatures(current)
            good = current.signed
        if good:
            self._opened.remember(
                kind, secagg_round.server_round, self._roster, base, current.survivors
            )
        secagg_round.shares(current if good else None, self._next)
        if not good:
            raise ProtocolError(
                f"too few sites are left to add up: {', '.join(heard) or 'none'}"
                + ("; sites answer no other list" if secagg_round.found.wait_for else "")
            )
        self._read(secagg_round.found, current, layout)

    def _read(self, found: Summed, current: ServerInstance, layout: Layout) -> None:
        """Read the sums in the unmasked vectors, where no site declined and they can be true."""
        started, survivors = time.monotonic(), len(current.survivors)
        totals = current.unmask(threads=available_cores())
        sums = layout.numbers_of(totals)
        found.declined = _declined(sums, survivors)
        if found.declined:
            raise ProtocolError(f"{found.declined} of {survivors} sites declined")
        noisy = self._heads is not None
        check_plausible(layout, totals, sums, survivors, task=self.task, noisy=noisy)
        found.mean = layout.mean_of(totals, sums.get(WEIGHT, [0])[0])
        found.sums = sums
        found.seconds["unmask"] = round(time.monotonic() - started, 3)

    def _all_at_first(self, present: list[str]) -> int:
        """Return how many sites the first try of the first sum needs: all that are there."""
        first = not self._asked_for_all and not self._opened.newest(self._roster)
        self._asked_for_all = True
        return len(present) if first else 0

    def _ready_instance(self, secagg_round: SecAggRound, needed: int) -> ServerInstance:
        """Return the prepared instance, or set up a new one where too few of it are there.

        A new one, because a site begins an instance once: an answer may have been lost.
        """
        least = max(needed, self._next.threshold)  # fewer of them would be refused by the sites
        if len(set(secagg_round.present) & set(self._next.with_shares)) >= least:
            return self._next
        self._next = self._new_instance()
        secagg_round.keys(self._next)
        if len(self._next.with_keys) >= needed:
            secagg_round.shares(None, self._next)
        return self._next

    def _new_instance(self) -> ServerInstance:
        self._number += 1
        return ServerInstance(self._session, self._number, self._floor, degree=self._degree)

    def _outcome(self, found: Summed) -> Outcome:
        rows = [found.rows[name] for name in sorted(found.rows)]
        outcome = Outcome(rows=rows, bytes_up=found.bytes_up, bytes_down=found.bytes_down)
        outcome.wait_for, outcome.declined = found.wait_for, found.declined
        sums = found.sums
        if "images" not in sums:  # nothing came, or nothing that is not noised
            return outcome
        outcome.images = sums["images"][0]
        outcome.training_seconds = min(sums["seconds"][0], found.seconds["vectors"])
        if sums["incoming-examples"][0] > 0:
            counts = {s.name: sums[f"incoming-{s.name}"] for s in self.task.sums(self.outputs)}
            loss, examples = sums["incoming-loss-sum"][0], sums["incoming-examples"][0]
            outcome.validation = Evaluation.of(self.task, self.outputs, loss, examples, counts)
        return outcome

    def _own(self, arrays: ArrayMap) -> ArrayRecord:
        return held({name: array for name, array in arrays.items() if name in self._parameters})


def _pixel_sums(sums: Mapping[str, Sequence[float]]) -> PixelSums:
    return PixelSums(
        sums["count"][0],
        tuple(total / 255 for total in sums["levels"]),
        tuple(total / 255**2 for total in sums["squared-levels"]),
        tuple(sums["label-counts"]),
        tuple(sums["side-counts"]),
    )


def _row(kind: str, secagg_round: SecAggRound, current: ServerInstance, layout: Layout) -> SumRow:
    """Return what the coordinator may write down of a sum."""
    found, members = secagg_round.found, current.members
    weight = found.sums.get(WEIGHT, [0.0])[0]
    bound = layout.error_bound(len(current.survivors), weight) if layout.entries and weight else 0.0
    return SumRow(
        round=secagg_round.server_round,
        kind=kind,
        instance=current.number,
        asked=secagg_round.present,
        members=list(members),
        survivors=list(current.survivors) if members else [],
        dropped=list(current.dropped) if members else [],
        threshold=current.threshold,
        degree=current.degree or 0,
        neighbours=current.neighbours,
        min_survivors=current.floor.min_survivors,
        max_colluding=current.floor.max_colluding,
        signatures=current.num_signatures,
        reason=found.reason,
        numbers=[number.name for number in layout.numbers],
        entries=layout.entries,
        step=layout.fixed_point.step if layout.entries else 0.0,
        weight_sum=weight,
        error_bound=bound,
        bytes_up=found.bytes_up,
        bytes_down=found.bytes_down,
        seconds=found.seconds,
    )


def _declined(sums: Mapping[str, Sequence[float]], survivors: int) -> int:
    """Return how many sites declined, so that there is no sum of anything else."""
    (declined,) = sums.get(DECLINED, [0])
    if not 0 <= declined <= survivors:
        raise ProtocolError(
            f"the sum of {DECLINED} is {declined:g}; expected 0 to {survivors}: sites were told "
            "different things, or one sent rubbish"
        )
    return int(declined)


def _copy(config: ConfigRecord) -> ConfigRecord:
    return ConfigRecord(dict(config))


def _nobody(_: SiteRow) -> None: ...
