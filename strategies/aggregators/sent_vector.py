"""What travels in place of a model's arrays, and how the coordinator reads it: by default, nothing.

An aggregator asks one of these in every run, so that it need not know what the sites send.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np
from flwr.app import ConfigRecord

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.messages import sharing, variates
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

    def beside(self) -> ArrayMap:
        """Return what goes to the sites beside the model's arrays."""
        return {}

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


class _Since(SentModel):
    """Sites go on from the last round whose mean they were in, and are told which that is."""

    _SINCE = "sent/rounds/"

    def __init__(self, experiment: Experiment, model: ArrayMap) -> None:
        super().__init__(experiment, model)
        self._sites = experiment.federation.sites
        self._since = dict.fromkeys(self._sites, 0)

    def tell(self, config: ConfigRecord, number: int) -> None:
        """Say in which mean each site was last."""
        config[sharing.SINCE] = [self._since[site] for site in self._sites]

    def finished(
        self, number: int, sites: Collection[str], before: ArrayMap, after: ArrayMap
    ) -> None:
        """Remember who was in the mean."""
        self._since |= dict.fromkeys(sites, number)

    def state(self) -> ArrayMap:
        """Return the rounds by the sites' names."""
        rounds = self._since.items()
        return {f"{self._SINCE}{site}": np.array([number]) for site, number in rounds}

    def load_state(self, state: ArrayMap) -> None:
        """Take them back; a site that is new begins anew."""
        for site in self._sites:
            found = state.get(f"{self._SINCE}{site}")
            self._since[site] = 0 if found is None else int(found[0])


class SentPart(_Since):
    """Sites send a part of an update's numbers, see `primia_flwr.messages.sharing`."""

    _CHANGED = "sent/changed"

    def __init__(self, experiment: Experiment, model: ArrayMap) -> None:
        super().__init__(experiment, model)
        self._count = experiment.aggregation.num_shared(self._entries)
        self._own = experiment.aggregation.share_by == "own"
        self._changed = np.empty(0, np.int64)

    @property
    def form(self) -> ArrayMap:
        """A vector; of a site's own choice the places, too."""
        if self._own:
            return sharing.own_form(self._entries, self._count)
        return {VECTOR: np.zeros(self._count, np.float32)}

    def tell(self, config: ConfigRecord, number: int) -> None:
        """Say in which mean each site was last, and which numbers changed most."""
        super().tell(config, number)
        if self._experiment.aggregation.share_by == "change":
            config[sharing.PLACES] = sharing.told_text(self._changed, self._entries)

    def read(self, update: Update, before: ArrayMap, number: int) -> Update:
        """Return an update with the arrays of a model that differs in the numbers that came."""
        if self._own:
            vector = sharing.own_whole(update.packed, self._entries)
        else:
            vector = update.arrays[VECTOR]
        return _read(update, before, vector, self.whole(vector, number))

    def whole(self, mean: sharing.Numbers, number: int) -> sharing.Numbers:
        """Put the numbers into their places, between zeros."""
        return mean if self._own else sharing.whole(mean, self._places(number), self._entries)

    def finished(
        self, number: int, sites: Collection[str], before: ArrayMap, after: ArrayMap
    ) -> None:
        """Remember who was in the mean, and which numbers it changed most."""
        super().finished(number, sites, before, after)
        told = sharing.num_told(self._experiment, self._entries)
        if told:
            self._changed = sharing.largest_places(difference(after, before), told)

    def state(self) -> ArrayMap:
        """Return the rounds, and the places."""
        return super().state() | {self._CHANGED: self._changed}

    def load_state(self, state: ArrayMap) -> None:
        """Take them back."""
        super().load_state(state)
        self._changed = state.get(self._CHANGED, np.empty(0, np.int64))

    def _places(self, number: int) -> sharing.Places:
        return sharing.drawn_places(self._experiment, self._entries, number, self._changed)


class _SentVariates(_Since):
    """Sites send an update and the change of a control variate, see `strategies/scaffold.py`."""

    def __init__(self, experiment: Experiment, model: ArrayMap, parameters: Iterable[str]) -> None:
        super().__init__(experiment, model)
        self._named = frozenset(parameters) & model.keys()
        self._common = np.zeros(self._entries, np.float32)
        self._change = np.zeros(self._entries, np.float32)

    @property
    def form(self) -> ArrayMap:
        """Both vectors as one."""
        return {VECTOR: np.zeros(2 * self._entries, np.float32)}

    def beside(self) -> ArrayMap:
        """Return the mean of the sites' control variates."""
        return variates.beside(self._variates())

    def read(self, update: Update, before: ArrayMap, number: int) -> Update:
        """Return an update with the arrays of the site's model."""
        vector = update.arrays[VECTOR]
        return _read(update, before, vector, vector[: self._entries])

    def whole(self, mean: sharing.Numbers, number: int) -> sharing.Numbers:
        """Return the update's part; the other is for `finished`."""
        self._change = mean[self._entries :]
        return mean[: self._entries]

    def finished(
        self, number: int, sites: Collection[str], before: ArrayMap, after: ArrayMap
    ) -> None:
        """Move the mean of all sites' variates by what those in the sum have changed."""
        super().finished(number, sites, before, after)
        self._common = self._common + np.float32(len(sites) / len(self._sites)) * self._change

    def state(self) -> ArrayMap:
        """Return the rounds, and the variates."""
        return super().state() | variates.beside(self._variates())

    def load_state(self, state: ArrayMap) -> None:
        """Take them back; where sites have joined or left, all begin anew with variates of 0."""
        names = {name.removeprefix(self._SINCE) for name in state if name.startswith(self._SINCE)}
        if names != set(self._sites):
            state = {}
        super().load_state(state)
        nothing = {name: np.zeros_like(array) for name, array in self._model.items()}
        _, found = variates.apart({**nothing, **{n: state[n] for n in self.beside() if n in state}})
        self._common = difference({**nothing, **found}, nothing)

    def _variates(self) -> ArrayMap:
        whole = unflatten(self._common, self._model)
        return {name: array for name, array in whole.items() if name in self._named}


def _read(
    update: Update, before: ArrayMap, vector: sharing.Numbers, change: sharing.Numbers
) -> Update:
    """Return an update with the vector that came, and the model that it makes."""
    by_name = unflatten(change, before)
    arrays = {name: before[name] + by_name[name] for name in before}
    return replace(update, arrays=arrays, packed=held(arrays), vector=vector)


def sent_by(experiment: Experiment, model: ArrayMap, parameters: Iterable[str]) -> SentModel:
    """Return what the sites of an experiment send."""
    if experiment.strategy.rule.variates:
        return _SentVariates(experiment, model, parameters)
    kind = SentPart if experiment.aggregation.shares_a_part else SentModel
    return kind(experiment, model)
