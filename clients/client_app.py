"""The ClientApp: three messages, each translated into calls of the library.

`query.statistics` sums over the site's pixels; `train` one round; `evaluate` a verdict on the
model. The imports stay inside the handlers where they are heavy, because a SuperNode starts
a new process for every message.
"""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query("statistics")
def statistics(message: Message, context: Context) -> Message:
    """Return count, sum and sum of squares of the site's pixels, and its class counts."""
    from clients.answers import answer_statistics

    return answer_statistics(message, context)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Validate the global model as it arrives, train it for one round, return the update."""
    from clients.answers import answer_train

    return answer_train(message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return the global model's loss and confusion counts on the site's validation images."""
    from clients.answers import answer_evaluate

    return answer_evaluate(message, context)
