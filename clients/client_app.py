"""The ClientApp: each message is translated into calls of the library.

`query.statistics` sums over the site's pixels; `train` one round; `evaluate` a verdict on the
model; `query.secagg` a step of secure aggregation that needs no data. The imports stay inside
the handlers where they are heavy, because a SuperNode starts a new process for every message.
"""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients.mods.discretion import discreet
from clients.mods.secagg import answer_protocol, secured

app = ClientApp()


@app.query("statistics")
def statistics(message: Message, context: Context) -> Message:
    """Return count, sum and sum of squares of the site's pixels, and its class counts."""
    return discreet(_statistics, message, context)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Validate the global model as it arrives, train it for one round, return the update."""
    return discreet(_train, message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return the global model's loss and counts on the site's validation images."""
    return discreet(_evaluate, message, context)


@app.query("secagg")
def secagg(message: Message, context: Context) -> Message:
    """Take a step of secure aggregation: keys, sealed shares, a signature, or shares."""
    return discreet(answer_protocol, message, context)


# --- Imported when they are needed ---------------------------------------------------------------


def _statistics(message: Message, context: Context) -> Message:
    from clients.handlers.answers import answer_statistics

    return secured(answer_statistics, message, context)


def _train(message: Message, context: Context) -> Message:
    from clients.handlers.answers import answer_train

    return secured(answer_train, message, context)


def _evaluate(message: Message, context: Context) -> Message:
    from clients.handlers.answers import answer_evaluate

    return secured(answer_evaluate, message, context)
