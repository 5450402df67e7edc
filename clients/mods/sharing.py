"""A part of an update's numbers leaves a site; the rest is kept, and the site goes on from it.

What is kept never leaves as it is, and is of parameters only: the statistics of normalisation
layers are no sums of steps. A site goes on from the last round whose mean it was in, so numbers
that were sent in vain are not lost with what was kept, and none counts twice.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MessageType
from flwr.clientapp.typing import ClientAppCallable

from clients.site.node import experiment_of
from primia_flwr.messages import secure as wire
from primia_flwr.messages import sharing
from primia_flwr.messages.held import held
from primia_flwr.messages.keys import ARRAYS

if TYPE_CHECKING:
    from clients.site.opened import OpenSite

_UNSENT = "unsent"


def sharing_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Answer a message; of an update send the numbers of this round's places alone.

    Raises
    ------
    ProtocolError
        If the message does not say what it must of the rounds before; nothing is trained.
    """
    asked = message.metadata.message_type == MessageType.TRAIN
    if not asked or not experiment_of(context).aggregation.shares_a_part:
        return call_next(message, context)
    from clients.site.opened import SiteContext, open_site

    part = _Part.of(open_site(context), message)
    reply = call_next(message, SiteContext(context, part.with_rest(message)))
    trained = reply.content.array_records.get(ARRAYS)
    if trained is not None:
        reply.content[ARRAYS] = part.of_update(message, trained)
    return reply


@dataclass(frozen=True)
class _Part:
    """What a site sends of its update in one round.

    `since`: the round whose rest it adds, 0 for none. `told`: places that the coordinator names.
    `statistics`: the model's arrays that are no parameters. `names`: of the arrays that are sent.
    """

    site: "OpenSite"
    number: int
    since: int
    told: sharing.Places
    statistics: frozenset[str]
    names: tuple[str, ...]

    @classmethod
    def of(cls, site: "OpenSite", message: Message) -> "_Part":
        """Read it from a message."""
        from clients.handlers.message import round_config
        from primia_flwr.models.empty import statistics_arrays
        from primia_flwr.models.frozen_arrays import frozen_arrays, without

        (config, number), experiment = round_config(message), site.experiment
        since = sharing.last_round(config, experiment, site.name, number)
        built = {"outputs": len(site.data.train.classes), "channels": experiment.data.channels}
        arrays = wire.numpy_arrays(message.content.array_records[ARRAYS])
        sent = without(arrays, frozen_arrays(experiment.model, **built))
        told = sharing.told_places(config, experiment, sum(array.size for array in sent.values()))
        statistics = statistics_arrays(experiment.model, **built)
        return cls(site, number, since, told, statistics, tuple(sent))

    def with_rest(self, message: Message) -> "OpenSite":
        """Return the site that trains from the model that came and what it has not sent of its own.

        To train from the model alone, and add the rest to the update, would take the same steps
        again and again until they are sent: with a small share that diverges.
        """
        import torch

        arrays = self._arrays(message)
        rest = wire.unflatten(self._rest(arrays), arrays)
        own = {n: torch.from_numpy(a) for n, a in rest.items() if n not in self.statistics}
        return replace(self.site, unsent=own)

    def _arrays(self, message: Message) -> dict[str, sharing.Numbers]:
        came = wire.numpy_arrays(message.content.array_records[ARRAYS])
        return {name: came[name] for name in self.names}

    def _rest(self, arrays: dict[str, sharing.Numbers]) -> sharing.Numbers:
        """Return what was kept of the round that this one goes on from, as one vector."""
        before = self.site.kept(_UNSENT).load(self.since) if self.since else {}
        size = sum(array.size for array in arrays.values())
        return before.get(_UNSENT, np.zeros(size, np.float32))

    def of_update(self, message: Message, trained: ArrayRecord) -> ArrayRecord:
        """Return the numbers that leave; the others are on the disk then."""
        after, arrays = wire.numpy_arrays(trained), self._arrays(message)
        update, rest = wire.difference(after, arrays), self._rest(arrays)
        places = self._places(update)
        if np.isfinite(update).all():  # of a training that diverged nothing is kept
            rest = update.copy()
            rest[places] = 0
            for name, part in wire.unflatten(rest, after).items():
                if name in self.statistics:
                    part[...] = 0
        self.site.kept(_UNSENT).save(self.number, {_UNSENT: rest}, needed=self.since)
        if self.site.experiment.aggregation.share_by == "own":
            return sharing.own_part(update, places)
        return held({sharing.VECTOR: update[places]})

    def _places(self, update: sharing.Numbers) -> sharing.Places:
        experiment = self.site.experiment
        if experiment.aggregation.share_by == "own":
            return sharing.largest_places(update, experiment.aggregation.num_shared(update.size))
        return sharing.drawn_places(experiment, update.size, self.number, self.told)
