"""The secure aggregator: the coordinator learns sums over sites, and nothing of a single one.

Each round is an instance of the protocol in `primia_flwr.secagg` with fresh keys. Two messages
a site carry it: the first brings the model and returns the masked vector and the keys for the
round after; the second returns shares for this round and sealed shares for the next. Where a
site dropped out a third one, in between, collects signatures on the list of survivors.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, MessageType, RecordDict
from flwr.serverapp.strategy import Strategy

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.rules import Need
from primia_flwr.data.statistics import PixelSums
from primia_flwr.errors import FederationError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages import secure as wire
from primia_flwr.messages.held import held
from primia_flwr.messages.keys import ARRAYS, CONFIG, HEADS, STATISTICS, WEIGHT
from primia_flwr.messages.ledger_heads import LedgerHeads
from primia_flwr.pipeline.weights import check_mean_weight
from primia_flwr.runs.checkpoint import ArrayMap
from primia_flwr.runs.history import SiteRow
from primia_flwr.runs.recording import Recording
from primia_flwr.secagg.protocol.parties import Session
from primia_flwr.tasks.task import Evaluation
from strategies.aggregators.aggregator import Aggregator, OnRow, Outcome, Request, Statistics
from strategies.aggregators.introductions import ask_names
from strategies.aggregators.secure.secagg_round import Summed, query
from strategies.aggregators.secure.sums import Asked, SecureSums
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
        self._strategy, self._sent_vector = strategy, sent
        self._parameters = frozenset(parameters) & model.keys()
        self._sent = tuple(model)
        entries = sum(array.size for array in model.values())
        self._train_layout = wire.report_layout(experiment, entries, outputs)
        self._evaluate_layout = wire.report_layout(experiment, 0, outputs)
        self._statistics_layout = wire.statistics_layout(experiment, outputs)
        self._num_sites, self._experiment = len(experiment.federation.sites), experiment
        self.task, self.outputs = experiment.task, outputs
        self._known: set[str] = set()
        self._heads = LedgerHeads.of(experiment, session, folder)
        self._recording = Recording.of(experiment, folder)
        self._sums = SecureSums(
            experiment, session, folder=folder, flower_run=flower_run, recording=self._recording,
            sent=sent, noisy=self._heads is not None,
        )  # fmt: skip

    # --- The aggregator -----------------------------------------------------------------------

    def introduce(
        self, grid: RosterGrid, nodes: list[int], *, timeout: float, enough: int = 0
    ) -> dict[int, SiteRow | None]:
        """Ask nodes for their names."""
        messages = {node: query(node, {}) for node in nodes}
        return ask_names(grid, messages, self._known.add, timeout=timeout, enough=enough)

    def statistics(self, grid: RosterGrid, *, timeout: float) -> Statistics:
        """Learn the sums over all selected sites.

        Raises
        ------
        FederationError
            If too few of them answer.
        ConfigError
            If they weigh more than one may.
        """
        config = ConfigRecord({HEADS: self._heads.to_text()} if self._heads else {})
        content = RecordDict({CONFIG: config})
        asked = Asked(0, _STATISTICS, content, self._statistics_layout, timeout)
        for _ in range(2):  # the first time for all: who is not in the first sum stays out
            found = self._sums.learn(asked, grid, _nobody)
            if self._heads:
                self._heads.learn(found.heads)
            if found.sums:
                break
        if not found.sums:
            reasons = "; ".join(f"{r.site}: {r.reason}" for r in found.rows.values() if not r.good)
            least = self._sums.floor.min_survivors
            raise FederationError(
                f"too few sites took part in the pixel statistics ({reasons}); expected "
                f"min_survivors={least}; see to those sites and start again"
            )
        sums = _pixel_sums(found.sums)
        if not self._heads:
            labelled = self.task.labelled(sums.label_counts)
            check_mean_weight(self._experiment, labelled, len(found.survivors))
        return Statistics(sums, int(found.sums["num-val"][0]))

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
        number = request.server_round
        if self._recording:
            self._recording.begin(number, request.arrays, sent=self._sent)
        needed, timeout = request.min_updates, request.timeout
        asked = Asked(number, MessageType.TRAIN, content, self._train_layout, timeout, needed)
        found = self._sums.learn(asked, grid, on_row)
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
        asked = Asked(
            request.server_round, MessageType.EVALUATE, content, self._evaluate_layout,
            request.timeout, request.min_updates,
        )  # fmt: skip
        return self._outcome(self._sums.learn(asked, grid, on_row))

    def state(self) -> ArrayMap:
        """Return the server optimiser's moments, and what was sent."""
        return moments(self._strategy) | self._sent_vector.state()

    def load_state(self, state: ArrayMap) -> None:
        """Put them back."""
        load_moments(self._strategy, state)
        self._sent_vector.load_state(state)

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
        tuple(sums.get(wire.VOLUME_COUNTS, ())),
    )


def _copy(config: ConfigRecord) -> ConfigRecord:
    return ConfigRecord(dict(config))


def _nobody(_: SiteRow) -> None: ...
