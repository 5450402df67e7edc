"""Control variates: how a site's gradients differ from the mean, kept here, corrected by there.

What leaves is the update and the change of the site's own variate, which add up over the sites. A
site goes on from the variate of the last round whose mean it was in, so that the coordinator's is
the mean of theirs.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Context, Message, MessageType
from flwr.clientapp.typing import ClientAppCallable

from clients.site.node import experiment_of
from primia_flwr.errors import ProtocolError
from primia_flwr.messages import secure as wire
from primia_flwr.messages import sharing, variates
from primia_flwr.messages.held import held
from primia_flwr.messages.keys import ARRAYS, METRICS, NUM_BATCHES

if TYPE_CHECKING:
    from clients.site.opened import OpenSite

_OWN = "variate"
_Vector = npt.NDArray[np.float32]


def variates_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Answer a message; correct the steps of a training, and send two vectors of it.

    Raises
    ------
    ProtocolError
        If the message does not hold what it must of the rounds before; nothing is trained.
    """
    asked = message.metadata.message_type == MessageType.TRAIN
    if not asked or not experiment_of(context).strategy.rule.variates:
        return call_next(message, context)
    from clients.site.opened import SiteContext, open_site

    site = open_site(context)
    model, common = variates.apart(wire.numpy_arrays(message.content.array_records[ARRAYS]))
    message.content[ARRAYS] = held(model)
    own = _Variate.of(site, message, common)
    reply = call_next(message, SiteContext(context, own.correcting()))
    trained = reply.content.array_records.get(ARRAYS)
    if trained is not None:
        reply.content[ARRAYS] = own.two_vectors(reply, trained)
    return reply


@dataclass(frozen=True)
class _Variate:
    """A site's control variate in one round; vectors in the order of the arrays' names.

    `sent`: the arrays of the model that sites send back, as they came; `parameters`: those of them
    that have variates. `common`: c; `own`: c_k.
    """

    site: "OpenSite"
    number: int
    since: int
    sent: dict[str, _Vector]
    parameters: frozenset[str]
    common: _Vector
    own: _Vector

    @classmethod
    def of(cls, site: "OpenSite", message: Message, common: variates.Arrays) -> "_Variate":
        """Read it from a message and from what the site kept."""
        from clients.handlers.message import round_config
        from primia_flwr.models.empty import statistics_arrays
        from primia_flwr.models.frozen_arrays import frozen_arrays, without

        (config, number), experiment = round_config(message), site.experiment
        since = sharing.last_round(config, experiment, site.name, number)
        built = {"outputs": len(site.data.train.classes), "channels": experiment.data.channels}
        arrays = wire.numpy_arrays(message.content.array_records[ARRAYS])
        sent = without(arrays, frozen_arrays(experiment.model, **built))
        odd = sorted(common.keys() ^ without(sent, statistics_arrays(experiment.model, **built)))
        if odd:
            raise ProtocolError(
                f"a control variate of {odd[0]!r:.60} is missing, or too much; expected one of "
                "each trained parameter"
            )
        nothing = {name: np.zeros_like(array) for name, array in sent.items()}
        flat = wire.difference({**nothing, **common}, nothing)
        kept = site.kept(_OWN).load(since) if since else {}
        own = kept.get(_OWN, np.zeros_like(flat))
        return cls(site, number, since, sent, frozenset(common), flat, own)

    def correcting(self) -> "OpenSite":
        """Return the site with c - c_k as what is added to its gradients."""
        import torch

        added = wire.unflatten(self.common - self.own, self.sent)
        named = {n: torch.from_numpy(a) for n, a in added.items() if n in self.parameters}
        return replace(self.site, correction=named)

    def two_vectors(self, reply: Message, trained: ArrayRecord) -> ArrayRecord:
        """Return the update and the change of the variate; the variate is on the disk then."""
        update = wire.difference(wire.numpy_arrays(trained), self.sent)
        batches = reply.content.metric_records[METRICS][NUM_BATCHES]
        assert isinstance(batches, int)
        change = -self.common - update / np.float32(self._rates(batches))
        for name, part in wire.unflatten(change, self.sent).items():
            if name not in self.parameters:
                part[...] = 0
        self.site.kept(_OWN).save(self.number, {_OWN: self.own + change}, needed=self.since)
        return held({sharing.VECTOR: np.concatenate([update, change])})

    def _rates(self, batches: int) -> float:
        """Return the sum of the rates of the round's steps."""
        from primia_flwr.training.plan import plan_round
        from primia_flwr.training.schedules import sum_of_rates

        experiment = self.site.experiment
        plan = plan_round(
            experiment.training,
            num_examples=len(self.site.data.train),
            round_number=self.number,
            num_rounds=experiment.federation.rounds,
        )
        return sum_of_rates(experiment.training, plan, batches)
