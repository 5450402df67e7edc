"""The plain aggregator: every site's update reaches the coordinator, is screened and aggregated.

A strategy (FedAvg, Adam, median, ...) works on the model's parameters. Floating buffers, which
are the statistics of normalisation layers, are always the weighted mean over all good updates,
whatever the strategy: a server optimiser could make a variance negative, and a coordinate-wise
median of mean and variance describes no batch. With Krum the parameters are those of one site
and the buffers still the mean of all. Integer buffers never travel.
"""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from primia_flwr.data.statistics import PixelSums
from primia_flwr.errors import ProtocolError
from primia_flwr.flower.roster_grid import Answer, RosterGrid
from primia_flwr.messages.held import chosen, held
from primia_flwr.messages.keys import ARRAYS, LOSS, METRICS, WEIGHT
from primia_flwr.runs.checkpoint import ArrayMap
from primia_flwr.runs.history import SiteRow
from primia_flwr.runs.recording import Recording
from primia_flwr.tasks.task import Task
from strategies.aggregators.aggregator import (
    Aggregator,
    OnRow,
    Outcome,
    Request,
    SiteModel,
    Statistics,
)
from strategies.aggregators.exchange import (
    bytes_of,
    complete,
    covered,
    mean_loss,
    missing,
    take_in,
)
from strategies.aggregators.reply_validator import (
    ReplyValidator,
    Update,
    ValidatedReply,
    rejected_row,
)
from strategies.aggregators.sent_vector import SentModel
from strategies.aggregators.server_step import aggregate, check_finite, load_moments, moments
from strategies.aggregators.statistics_query import SiteSums, ask_statistics
from strategies.averaging.weighted_fedavg import weighted_mean


class PlainAggregator(Aggregator):
    """Asks with a Flower strategy's messages and aggregates with it.

    Parameters
    ----------
    strategy : Strategy
        Given parameters only.
    model : mapping of name to array
        What the sites send of the initial global model: float arrays, those that are trained.
    parameters : collection of str
        Which of them are parameters; the others are buffers.
    task : Task
        Whose evaluations come.
    outputs, channels : int
        What statistics and evaluations must fit.
    keep_models : bool
        Keep each site's last model, for the cross-site matrix.
    volumes : bool
        The sites count their volumes in the statistics.
    recording : Recording, optional
        Where to keep what comes, in a simulation that is to be attacked.
    sent : SentModel
        What the sites send.
    """

    def __init__(
        self,
        strategy: Strategy,
        model: ArrayMap,
        parameters: Iterable[str],
        *,
        task: Task,
        outputs: int,
        channels: int,
        keep_models: bool = False,
        volumes: bool = False,
        recording: Recording | None = None,
        sent: SentModel,
    ) -> None:
        self.task, self.outputs = task, outputs
        self._strategy = strategy
        self._parameters = frozenset(parameters) & model.keys()
        self._dtypes = {name: array.dtype for name, array in model.items()}
        self._sent_vector = sent
        self._validator = ReplyValidator(sent.form, task=task, outputs=outputs)
        self._recording = recording
        self._before = ""  # in a relay: the site whose model the next one trains
        self._sites: dict[str, SiteSums] = {}
        self._keep_models, self._models = keep_models, dict[str, SiteModel]()
        self._ask_statistics = partial(
            ask_statistics, channels=channels, outputs=outputs, task=task, volumes=volumes
        )

    def introduce(
        self, grid: RosterGrid, nodes: list[int], *, timeout: float, enough: int = 0
    ) -> dict[int, SiteRow | None]:
        """Ask nodes for their names and pixel statistics, in the clear."""
        rows: dict[int, SiteRow | None] = {}
        found = self._ask_statistics(grid, nodes, timeout=timeout, enough=enough)
        for node, answer in found.items():
            rows[node] = answer if isinstance(answer, SiteRow) else None
            if isinstance(answer, SiteSums):
                self._sites[grid.name_of(node)] = answer
        return rows

    def statistics(self, grid: RosterGrid, *, timeout: float) -> Statistics:
        """Add up what the sites sent when they introduced themselves."""
        known = [self._sites[name] for name in sorted(self._sites)]
        return Statistics(
            PixelSums.merge(site.sums for site in known), sum(site.num_val for site in known)
        )

    def sites(self) -> list[dict[str, Any]]:
        """Return each site's counts of images."""
        return [self._sites[name].describe(name) for name in sorted(self._sites)]

    def train(self, request: Request, grid: RosterGrid, on_row: OnRow) -> Outcome:
        """Have the selected sites train; aggregate if at least `min_updates` are good."""
        arrays = held({**request.arrays, **self._sent_vector.beside()})
        if self._recording:
            self._recording.begin(request.server_round, request.arrays)
        config = _copy(request.config)
        self._sent_vector.tell(config, request.server_round)
        messages = self._strategy.configure_train(
            request.server_round, self._own(arrays), config, grid
        )
        outcome, updates = self._send(messages, arrays, request, grid, on_row)
        if self._keep_models:
            self._models |= {
                u.site: SiteModel(request.server_round, {**request.arrays, **u.arrays})
                for u in updates
            }
        if len(updates) >= request.min_updates:
            outcome.arrays = {**request.arrays, **self._aggregate(request, updates)}
            outcome.train_loss = mean_loss(outcome.rows, updates)
            self._sent_vector.finished(
                request.server_round,
                [update.site for update in updates],
                self._sent(request.arrays),
                self._sent(outcome.arrays),
            )
        return outcome

    def evaluate(self, request: Request, grid: RosterGrid, on_row: OnRow) -> Outcome:
        """Have the selected sites validate a model."""
        messages = self._strategy.configure_evaluate(
            request.server_round, ArrayRecord(), _copy(request.config), grid
        )
        return self._send(messages, held(request.arrays), request, grid, on_row)[0]

    def site_models(self) -> dict[str, SiteModel]:
        """Return the last model that each site sent since the coordinator started, if kept."""
        return dict(self._models)

    def state(self) -> ArrayMap:
        """Return the server optimiser's moments, e.g. `m_t/fc.weight`, and what was sent."""
        return moments(self._strategy) | self._sent_vector.state()

    def load_state(self, state: ArrayMap) -> None:
        """Put them back."""
        load_moments(self._strategy, state)
        self._sent_vector.load_state(state)

    def _send(
        self,
        messages: Iterable[Message],
        arrays: ArrayRecord,
        request: Request,
        grid: RosterGrid,
        on_row: OnRow,
    ) -> tuple[Outcome, list[Update]]:
        """Ask, screen each reply as it comes, and sort what came by the sites' names."""
        outgoing = [
            complete(message, self._addressed(message, arrays, site), request.server_round)
            for message in messages
            for site in [grid.name_of(message.metadata.dst_node_id)]
        ]
        outcome = Outcome(bytes_down=sum(map(bytes_of, outgoing)))
        validated: dict[str, ValidatedReply] = {}
        busy: list[tuple[float, float]] = []

        def on_answer(answer: Answer) -> None:
            site = grid.name_of(answer.node)
            validated[site] = self._validated(request, site, answer.message)
            update = validated[site].update
            if self._recording and update is not None:
                arrays, after = update.arrays, self._before
                self._recording.site_model(request.server_round, site, arrays, after=after)
            outcome.bytes_up += bytes_of(answer.message)
            row = validated[site].row
            busy.append((max(answer.arrived - (row.seconds or 0.0), started), answer.arrived))
            on_row(row)

        started = time.monotonic()
        grid.ask(outgoing, timeout=request.timeout, on_answer=on_answer)
        for node in (message.metadata.dst_node_id for message in outgoing):
            site = grid.name_of(node)
            if site not in validated:
                row = missing(request, site, sent=node not in grid.unsent)
                validated[site] = ValidatedReply(row)
                on_row(row)
        ordered = [validated[site] for site in sorted(validated)]
        take_in(outcome, [one.row for one in ordered])
        _add_verdicts(outcome, ordered)
        outcome.training_seconds = covered(busy)
        return outcome, [one.update for one in ordered if one.update is not None]

    def _addressed(self, message: Message, arrays: ArrayRecord, site: str) -> ArrayRecord:
        """Return the arrays that one site is sent."""
        return arrays

    def _validated(self, request: Request, site: str, reply: Message) -> ValidatedReply:
        """Look at a reply before it counts."""
        found = self._validator.check(request.server_round, site, reply)
        if found.update is None:
            return found
        number, before = request.server_round, self._sent(request.arrays)
        try:
            update = self._sent_vector.read(found.update, before, number)
        except ProtocolError as error:
            return ValidatedReply(rejected_row(number, site, error))
        if found.incoming is not None:
            mean = found.incoming.loss_sum / found.incoming.num_examples
            update = replace(update, loss=mean)
        return ValidatedReply(found.row, update, found.incoming)

    def _aggregate(self, request: Request, updates: Sequence[Update]) -> ArrayMap:
        server_round = request.server_round
        replies = [self._as_reply(update) for update in updates]
        own = aggregate(self._strategy, server_round, replies)
        weights = [update.weight for update in updates]
        model: ArrayMap = {}
        for name, dtype in self._dtypes.items():
            if name in self._parameters:
                with np.errstate(over="ignore"):
                    model[name] = np.asarray(own[name], dtype=dtype)
            else:
                model[name] = weighted_mean([u.arrays[name] for u in updates], weights)
        check_finite(server_round, model)
        return model

    def _as_reply(self, update: Update) -> Message:
        """Rebuild a reply that holds nothing but screened parameters, the weight and the loss."""
        loss = math.nan if update.loss is None else update.loss  # rules want the same keys of all
        metrics = MetricRecord({WEIGHT: update.weight, LOSS: loss})
        content = RecordDict({ARRAYS: self._own(update.packed), METRICS: metrics})
        return Message(content, 0, MessageType.TRAIN)

    def _sent(self, arrays: ArrayMap) -> ArrayMap:
        """Return those of a model's arrays that the sites send back."""
        return {name: arrays[name] for name in self._dtypes}

    def _own(self, arrays: ArrayRecord) -> ArrayRecord:
        """Return the parameters among a model's arrays, sharing their bytes."""
        return chosen(arrays, [name for name in arrays if name in self._parameters])


def _copy(config: ConfigRecord) -> ConfigRecord:
    return ConfigRecord(dict(config))


def _add_verdicts(outcome: Outcome, replies: Sequence[ValidatedReply]) -> None:
    """Put into an outcome what the sites found of the model that they were sent."""
    for one in replies:
        if one.incoming is not None:
            known = outcome.validation
            outcome.validation = one.incoming if known is None else known + one.incoming
            outcome.validations[one.row.site] = one.incoming
