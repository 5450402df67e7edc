"""A site's answer to a message, through the mods that decide what may leave."""

from collections.abc import Callable

from flwr.app import Context, Message

from clients.handlers import evaluate, statistics, train
from clients.mods.dp import dp_mod
from clients.mods.search import search_mod

Handler = Callable[[Message, Context], Message]


def through(handler: Handler) -> Handler:
    """Return a handler behind the search's and the noise's mod; masks are left off."""

    def answer(message: Message, context: Context) -> Message:
        return search_mod(message, context, lambda m, c: dp_mod(m, c, handler))

    return answer


answer_statistics = through(statistics.answer_statistics)
answer_train = through(train.answer_train)
answer_evaluate = through(evaluate.answer_evaluate)
