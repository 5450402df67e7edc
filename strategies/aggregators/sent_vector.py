"""What travels in place of a model's arrays, and how the coordinator reads it: by default, nothing.

An aggregator asks one of these in every run, so that it need not know what the sites send.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from flwr.app import ConfigRecord

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.messages import sharing
from primia_flwr.messages.held import held
from primia_flwr.messages.secure import difference, unflatten
from primia_flwr.messages.sharing import VECTOR
from primia_flwr.runs.checkpoint import ArrayMap
from strategies.aggregators.reply_validator import Update


class SentModel:
    """Sites send the arrays of their models.

    Parameters
    ----------
    experiment : Experiment
        Says what sites send.
    model : mapping of name to array
        What is trained of the initial global model.
    """

    def __init__(self, experiment: Experiment, model: ArrayMap) -> None:
        self._experiment, self._model = experiment, model
        self._entries = sum(array.size for array in model.values())

    @property
    def form(self) -> ArrayMap:
        """Arrays of the shapes and types of what comes of a site in the clear."""
        return self._model

    def tell(self, config: ConfigRecord, number: int) -> None:
        """Add what the sites must know of the rounds before to a round's message."""

    def read(self, update: Update, before: ArrayMap, number: int) -> Update:
        """Return an update with a model's arrays, of what came in the clear.

        Raises
        ------
        ProtocolError
            If what came says what cannot be.
        """
        return update

    def whole(self, mean: sharing.Numbers, number: int) -> sharing.Numbers:
        """Return the mean of whole updates of the mean of what was sent."""
        return mean

    def finished(
        self, number: int, sites: Collection[str], before: ArrayMap, after: ArrayMap
    ) -> None:
        """Remember a round: the sites in its mean, and what it made of the model."""

    def state(self) -> ArrayMap:
        """Return what must outlive a crash of the coordinator."""
        return {}

    def load_state(self, state: ArrayMap) -> None:
        """Take back what `state` returned, among other things."""


class SentPart(SentModel):
    """Sites send a part of an update's numbers, see `primia_flwr.messages.sharing`."""

    _SINCE, _CHANGED = "shared/rounds", "shared/changed"

    def __init__(self, experiment: Experiment, model: ArrayMap) -> None:
        super().__init__(experiment, model)
        self._count = experiment.aggregation.num_shared(self._entries)
        self._own = experiment.aggregation.share_by == "own"
        self._sites = experiment.federation.sites
        self._since = dict.fromkeys(self._sites, 0)
        self._changed = np.empty(0, np.int64)

    @property
    def form(self) -> ArrayMap:
        """A vector; of a site's own choice the places, too."""
        if self._own:
            return sharing.own_form(self._entries, self._count)
        return {VECTOR: np.zeros(self._count, np.float32)}

    def tell(self, config: ConfigRecord, number: int) -> None:
        """Say in which mean each site was last, and which numbers changed most."""
        config[sharing.SINCE] = [self._since[site] for site in self._sites]
        if self._experiment.aggregation.share_by == "change":
            config[sharing.PLACES] = sharing.told_text(self._changed, self._entries)

    def read(self, update: Update, before: ArrayMap, number: int) -> Update:
        """Return an update with the arrays of a model that differs in the numbers that came."""
        if self._own:
            vector = sharing.own_whole(update.packed, self._entries)
        else:
            vector = update.arrays[VECTOR]
        change = unflatten(self.whole(vector, number), before)
        arrays = {name: before[name] + change[name] for name in before}
        return replace(update, arrays=arrays, packed=held(arrays), vector=vector)

    def whole(self, mean: sharing.Numbers, number: int) -> sharing.Numbers:
        """Put the numbers into their places, between zeros."""
        return mean if self._own else sharing.whole(mean, self._places(number), self._entries)

    def finished(
        self, number: int, sites: Collection[str], before: ArrayMap, after: ArrayMap
    ) -> None:
        """Remember who was in the mean, and which numbers it changed most."""
        self._since |= dict.fromkeys(sites, number)
        told = sharing.num_told(self._experiment, self._entries)
        if told:
            self._changed = sharing.largest_places(difference(after, before), told)

    def state(self) -> ArrayMap:
        """Return the rounds by the roster's order, and the places."""
        rounds = np.array([self._since[site] for site in self._sites], np.int64)
        return {self._SINCE: rounds, self._CHANGED: self._changed}

    def load_state(self, state: ArrayMap) -> None:
        """Take them back; without them the sites begin anew."""
        rounds = state.get(self._SINCE, np.zeros(len(self._sites), np.int64))
        self._since = dict(zip(self._sites, map(int, rounds), strict=True))
        self._changed = state.get(self._CHANGED, np.empty(0, np.int64))

    def _places(self, number: int) -> sharing.Places:
        return sharing.drawn_places(self._experiment, self._entries, number, self._changed)


def sent_by(experiment: Experiment, model: ArrayMap) -> SentModel:
    """Return what the sites of an experiment send."""
    kind = SentPart if experiment.aggregation.shares_a_part else SentModel
    return kind(experiment, model)
