"""The ensemble's aggregator: each site goes on with its own model, and the coordinator keeps all.

The model of a round is all sites' models side by side, `site/array`, so that rounds, checkpoints
and early stopping treat them as one. A site's model is validated at that site; a single model, at
the end, at all of them. Source: Chang et al. 2018, https://doi.org/10.1093/jamia/ocy017
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import DataError, FederationError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages.held import held, values_of
from primia_flwr.models.votes import Votes, by_rank
from primia_flwr.runs.checkpoint import ArrayMap
from primia_flwr.runs.cross_site import FILE, read_matrix
from primia_flwr.runs.history import OK
from strategies.aggregators.aggregator import OnRow, Outcome, Request, SiteModel
from strategies.aggregators.plain import PlainAggregator
from strategies.aggregators.relay.cycle import mean_loss
from strategies.aggregators.reply_validator import ValidatedReply


class EnsembleAggregator(PlainAggregator):
    """Sends each site the model that it trained last, and takes the next one from it."""

    def train(self, request: Request, grid: RosterGrid, on_row: OnRow) -> Outcome:
        """Have the selected sites train their own models."""
        messages = self._strategy.configure_train(
            request.server_round, ArrayRecord(), request.config, grid
        )
        outcome, updates = self._send(messages, held(request.arrays), request, grid, on_row)
        if updates and outcome.count() >= request.min_updates:
            outcome.arrays = dict(request.arrays)
            for update in updates:
                outcome.arrays |= beside({update.site: update.arrays})
            outcome.train_loss = mean_loss([row for row in outcome.rows if row.status == OK])
        return outcome

    def compared(self, best: ArrayMap, best_round: int) -> dict[str, SiteModel]:
        """Return each site's model."""
        sites = sorted({name.partition("/")[0] for name in best})
        return {site: SiteModel(best_round, model_of(best, site)) for site in sites}

    def _validated(self, request: Request, site: str, reply: Message) -> ValidatedReply:
        own = model_of(request.arrays, site) or request.arrays
        return super()._validated(replace(request, arrays=own), site, reply)

    def _addressed(self, message: Message, arrays: ArrayRecord, site: str) -> ArrayRecord:
        """Return a site's own model; a single model as it is."""
        own = model_of(values_of(arrays), site)
        return held(own) if own else arrays


def beside(models: Mapping[str, ArrayMap]) -> ArrayMap:
    """Return models by site as one mapping, each name behind its site's."""
    return {f"{site}/{name}": a for site, arrays in models.items() for name, a in arrays.items()}


def model_of(arrays: ArrayMap, site: str) -> ArrayMap:
    """Return a site's model out of many; nothing where it is not among them."""
    start = f"{site}/"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}


def members_of(best: ArrayMap, first: ArrayMap) -> dict[str, ArrayMap]:
    """Return the models of the sites that have trained: those that are not the first weights.

    Raises
    ------
    FederationError
        If there is none.
    """
    sites = sorted({name.partition("/")[0] for name in best})
    models = {site: model_of(best, site) for site in sites}
    found = {
        site: arrays
        for site, arrays in models.items()
        if any(not np.array_equal(arrays[name], first[name]) for name in first)
    }
    if not found:
        raise FederationError(
            "no site has trained a model; expected one at least; see sites.csv in the run's folder"
        )
    return found


def votes_of(
    experiment: Experiment, members: Iterable[str], sites: Iterable[Mapping[str, Any]], folder: Path
) -> Votes:
    """Return the weight of each member, as the experiment says.

    `sites`: what is known of each, `train` images among it. `folder`: the run's, where the verdicts
    of the sites are kept.

    Raises
    ------
    PrimiaError
        If the sites' verdicts are missing, or a model has none.
    """
    vote, names = experiment.strategy.vote, sorted(members)
    images = {str(site["site"]): float(site.get("train") or 0) for site in sites}
    sizes = {name: images.get(name, 0.0) for name in names}
    if vote == "mean":
        return Votes.of(experiment.task.name, vote, dict.fromkeys(names, 1.0))
    if vote == "size":
        return Votes.of(experiment.task.name, vote, sizes)
    matrix = read_matrix(folder)
    if matrix is None:
        raise DataError(
            f"{folder / FILE} is missing; expected the sites' verdicts on one another's models; go "
            "on with `primia train resume=<output folder>`"
        )
    aim = experiment.task.aim
    scores = {
        row.model: {site: aim.rising(cell.figure(aim.name)) for site, cell in row.cells.items()}
        for row in matrix.rows
        if row.model in names
    }
    return Votes.of(experiment.task.name, vote, by_rank(scores, sizes))
