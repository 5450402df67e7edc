"""One secure sum after the other: over which sites, by which instance, and what it opens."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from flwr.app import ArrayRecord, RecordDict

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import ProtocolError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages import secure as wire
from primia_flwr.messages.keys import ARRAYS, DECLINED, WEIGHT
from primia_flwr.pipeline.verify_sums import largest_error
from primia_flwr.processes.children import available_cores
from primia_flwr.provisioning.identities import identity_keys
from primia_flwr.runs.recording import Recording
from primia_flwr.runs.secure_sums import TRAIN, SumRow
from primia_flwr.runs.sum_log import SumLog
from primia_flwr.runs.unmasked_sums import OpenedSums
from primia_flwr.secagg.payload.layout import Layout
from primia_flwr.secagg.protocol.parties import Session, roster_digest
from primia_flwr.secagg.protocol.server import ServerInstance
from strategies.aggregators.aggregator import OnRow
from strategies.aggregators.reply_validator import clean
from strategies.aggregators.secure.plausibility import check_plausible
from strategies.aggregators.secure.secagg_round import SecAggRound, Summed
from strategies.aggregators.sent_vector import SentModel


@dataclass(frozen=True)
class Asked:
    """What the sites are asked for in one sum, and the layout of what they return.

    `needed`: the fewest sites that are wanted in it; never fewer than the floor says. `only`: the
    sites that it is over, by an instance of theirs alone; none: all that are selected. `base`: the
    digest of what they start from, where the message holds no model. `ages`: of their updates, in
    rounds.
    """

    server_round: int
    message_type: str
    content: RecordDict
    layout: Layout
    timeout: float
    needed: int = 0
    only: tuple[str, ...] = ()
    base: bytes = b""
    ages: Mapping[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """`train`, `evaluate` or `statistics`."""
        return TRAIN if self.only else self.message_type.rpartition(".")[2]

    @property
    def series(self) -> str:
        """What is opened once a round: a buffer by what is in it, anything else by its kind."""
        return f"buffer {self.base.hex()}" if self.only else self.kind

    @cached_property
    def model(self) -> bytes:
        """The digest of the model that the sites start from."""
        told = self.content.array_records.get(ARRAYS, ArrayRecord())
        return self.base or wire.model_digest(told)


@dataclass(frozen=True)
class _Sites:
    """Over which sites a sum is sought: of those `present`, `only` these, `needed` of them.

    `missing`: those of the `awaited` without which there can be no sum, and who are not there.
    """

    present: list[str]
    only: list[str]
    needed: int
    awaited: list[str]
    missing: list[str]


class SecureSums:
    """Learns sums over sites, each by an instance of the protocol with fresh keys.

    Parameters
    ----------
    experiment : Experiment
        Decides floor, degree and terms.
    session : Session
        The run and the sites' identity keys.
    folder : Path, optional
        The run's, where the facts of each sum are written.
    flower_run : int
        Flower's number of the run.
    recording : Recording, optional
        Keeps the masked updates as they come, and what was opened.
    sent : SentModel
        What the sites send.
    noisy : bool
        Whether the sites add noise to what they send.
    """

    def __init__(
        self,
        experiment: Experiment,
        session: Session,
        *,
        folder: Path | None,
        flower_run: int,
        recording: Recording | None,
        sent: SentModel,
        noisy: bool,
    ) -> None:
        self._session, self._sent_vector, self._noisy = session, sent, noisy
        self._task, self._recording = experiment.task, recording
        self._log = SumLog(folder) if folder else None
        self._opened = OpenedSums.of(experiment, folder)
        self._audited = experiment.output_dir if experiment.debug.verify_sums else ""
        self._roster = roster_digest(identity_keys(experiment))
        deployment = experiment.deployment
        # where no gate stands, nobody at a site knows the bundle
        bundle = deployment.bundle if deployment.kind == "deployment" else ""
        self.terms = wire.terms_of(experiment, flower_run=flower_run, bundle=bundle)
        self.floor = wire.floor_of(experiment)
        self._degree = wire.degree_of(experiment)
        # a sparse graph is good only while no more than that many drop out
        least = experiment.federation.min_sites if self._degree else 0
        self._least = max(self.floor.min_survivors, least)
        self._number = time.time_ns()  # above all numbers of the run before a resume
        self._next = self._new_instance()
        self._next_of: tuple[str, ...] = ()  # the sites that it was prepared with; none: all
        self._asked_for_all = False

    def learn(self, asked: Asked, grid: RosterGrid, on_row: OnRow) -> Summed:
        """Learn the sum over the selected sites; prepare the next instance on the way."""
        selected = [grid.name_of(node) for node in grid.get_node_ids()]
        present = [name for name in selected if name in asked.only or not asked.only]
        sites = self._sites(asked, present)
        secagg_round = SecAggRound(
            asked.server_round, grid, asked.timeout, on_row, self._log,
            only=sites.only, recording=self._recording if asked.layout.entries else None,
        )  # fmt: skip
        missing = sites.missing
        current = self._next if missing else self._ready_instance(secagg_round, sites.needed, asked)
        try:
            if missing:
                secagg_round.found.wait_for = sites.awaited
                raise ProtocolError(
                    f"sums were given over {', '.join(sites.awaited)} before, and sites answer no "
                    "list from whose difference few of them follow; waiting for "
                    f"{', '.join(missing)}"
                )
            _check_all_there(current, asked)
            self._ask(secagg_round, current, asked)
            self._unmask(secagg_round, current, asked, sites.needed)
            secagg_round.settle(current.survivors, sites.present)
            secagg_round.found.survivors = list(current.survivors)
        except ProtocolError as error:
            secagg_round.gave_up(clean(str(error)))
        self._keep(secagg_round, current, asked)
        return secagg_round.found

    def safe(self, present: Collection[str]) -> list[str]:
        """Return which of some sites may be added up next, as far as the coordinator knows."""
        return self._opened.largest_safe(present, self._roster)

    # --- Over which sites, by which instance ----------------------------------------------------

    def _sites(self, asked: Asked, present: list[str]) -> _Sites:
        opened = self._opened.sites(asked.series, asked.server_round, self._roster, asked.model)
        before = [] if asked.only else opened  # a buffer says itself over whom it is
        safe = self._opened.largest_safe(present, self._roster)
        newest = self._opened.newest(self._roster)
        needed = max(asked.needed, self._least, len(before), self._all_at_first(present))
        awaited = before or (newest if len(safe) < needed else [])
        missing = sorted(set(awaited) - set(present))
        only = present if missing else before or safe or newest
        return _Sites(present, only, needed, awaited, missing)

    def _all_at_first(self, present: list[str]) -> int:
        """Return how many sites the first try of the first sum needs: all that are there."""
        first = not self._asked_for_all and not self._opened.newest(self._roster)
        self._asked_for_all = True
        return len(present) if first else 0

    def _ready_instance(
        self, secagg_round: SecAggRound, needed: int, asked: Asked
    ) -> ServerInstance:
        """Return the prepared instance, or set up a new one where too few of it are there.

        A new one, because a site begins an instance once: an answer may have been lost.
        """
        least = max(needed, self._next.threshold)  # fewer of them would be refused by the sites
        there = set(self._next.with_shares)
        fits = asked.only == self._next_of and there >= set(asked.only)
        if fits and len(set(secagg_round.present) & there) >= least:
            return self._next
        self._next, self._next_of = self._new_instance(), asked.only
        secagg_round.keys(self._next)
        if len(self._next.with_keys) >= needed:
            secagg_round.shares(None, self._next)
        return self._next

    def _new_instance(self) -> ServerInstance:
        self._number += 1
        return ServerInstance(self._session, self._number, self.floor, degree=self._degree)

    # --- The steps of one sum -------------------------------------------------------------------

    def _ask(self, secagg_round: SecAggRound, current: ServerInstance, asked: Asked) -> None:
        """Send the message, and take the masked vectors and the keys of the next instance."""
        content, layout = asked.content, asked.layout
        transcript = wire.transcript_hash(
            asked.model, content, layout, asked.message_type, terms=self.terms
        )
        requests = current.begin_sum(transcript)
        self._next, self._next_of = self._new_instance(), asked.only
        secagg_round.vectors(current, self._next, requests, asked.message_type, content, layout)

    def _unmask(
        self, secagg_round: SecAggRound, current: ServerInstance, asked: Asked, needed: int
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
                asked.series, asked.server_round, self._roster, asked.model, current.survivors
            )
        secagg_round.shares(current if good else None, self._next)
        if not good:
            raise ProtocolError(
                f"too few sites are left to add up: {', '.join(heard) or 'none'}"
                + ("; sites answer no other list" if secagg_round.found.wait_for else "")
            )
        self._read(secagg_round.found, current, asked.layout)

    def _read(self, found: Summed, current: ServerInstance, layout: Layout) -> None:
        """Read the sums in the unmasked vectors, where no site declined and they can be true."""
        started, survivors = time.monotonic(), len(current.survivors)
        totals = current.unmask(threads=available_cores())
        sums = layout.numbers_of(totals)
        found.declined = _declined(sums, survivors)
        if found.declined:
            raise ProtocolError(f"{found.declined} of {survivors} sites declined")
        check_plausible(layout, totals, sums, survivors, task=self._task, noisy=self._noisy)
        found.mean = layout.mean_of(totals, sums.get(WEIGHT, [0])[0])
        found.sums = sums
        found.seconds["unmask"] = round(time.monotonic() - started, 3)

    def _keep(self, secagg_round: SecAggRound, current: ServerInstance, asked: Asked) -> None:
        """Write down what a sum has opened, where it is recorded, and its row in the log."""
        mean, number = secagg_round.found.mean, asked.server_round
        if self._recording and asked.layout.entries and mean is not None:
            whole = self._sent_vector.whole(mean, number)
            self._recording.opened(number, whole, current.survivors)
        if self._log:
            row = _row(asked.kind, secagg_round, current, asked.layout)
            row.ages = {site: float(asked.ages[site]) for site in sorted(asked.ages)}
            if self._audited and mean is not None:
                row.audit_error = largest_error(Path(self._audited), current.survivors, mean)
            self._log.add(row)


def _check_all_there(current: ServerInstance, asked: Asked) -> None:
    """Refuse to ask for a sum over certain sites where one is not in its instance."""
    gone = sorted(set(asked.only) - set(current.with_shares))
    if gone:
        raise ProtocolError(f"{', '.join(gone)} did not answer before the sum could begin")


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
