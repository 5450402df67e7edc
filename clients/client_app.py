"""The ClientApp: handlers of the coordinator's messages, and the mods around them.

Outermost first: what a failing site tells, models packed for the wire, what may leave at all
(`clients.leaving`), a relay, masks, the configuration of a search, a part of an update,
control variates, noise. The last six hand a message through untouched where their feature is off.
The imports stay inside the routes where they are heavy, because a SuperNode starts a new process
for every message.
"""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients.mods.buffered import answer_buffer
from clients.mods.discretion import discretion_mod
from clients.mods.dp import dp_mod
from clients.mods.leaving import leaving_mod
from clients.mods.packing import packing_mod
from clients.mods.relay import answer_relay, relay_mod
from clients.mods.search import search_mod
from clients.mods.secagg import answer_protocol, secagg_mod
from clients.mods.sharing import sharing_mod
from clients.mods.variates import variates_mod

app = ClientApp(
    mods=[
        discretion_mod, packing_mod, leaving_mod, relay_mod, secagg_mod, search_mod, sharing_mod,
        variates_mod, dp_mod,
    ]
)  # fmt: skip


@app.query("statistics")
def statistics(message: Message, context: Context) -> Message:
    """Return count, sum and sum of squares of the site's pixels, and its label counts."""
    from clients.handlers.statistics import answer_statistics

    return answer_statistics(message, context)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Validate the global model as it arrives, train it for one round, return the update."""
    from clients.handlers.train import answer_train

    return answer_train(message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return the global model's loss and counts on the site's validation images."""
    from clients.handlers.evaluate import answer_evaluate

    return answer_evaluate(message, context)


@app.query("relay")
def relay(message: Message, context: Context) -> Message:
    """Take a step of a relay: a key, a model sealed anew, or the last model."""
    return answer_relay(message, context)


@app.query("buffer")
def buffer(message: Message, context: Context) -> Message:
    """Give the update that the site holds into the secure sum of a buffer."""
    return answer_buffer(message, context)


@app.query("secagg")
def secagg(message: Message, context: Context) -> Message:
    """Take a step of secure aggregation: keys, sealed shares, a signature, or shares."""
    return answer_protocol(message, context)
