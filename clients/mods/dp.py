"""Differential privacy around the handlers: nothing leaves but what a ledger has charged for.

In a private run no handler is called: exact numbers have no finite epsilon. An update and, where
the run asks for them, pixel statistics are made, noised and charged for here; everything else is
refused.
"""

from flwr.app import Context, Message, MessageType
from flwr.clientapp.typing import ClientAppCallable

from clients.leaving import PROTOCOL, RELAY, STATISTICS, leaving
from clients.site.node import experiment_of
from primia_flwr.errors import ProtocolError


def dp_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Answer a private run's messages; hand those of other runs through.

    Raises
    ------
    ProtocolError
        If a private run asks for anything but an update or noisy statistics.
    PrivacyBudgetError
        If a unit's epsilon would pass the site's ceiling; nothing was trained.
    """
    kind = message.metadata.message_type
    steps = kind in (PROTOCOL, RELAY)  # they touch no image
    if steps or not leaving(experiment_of(context)).noised:
        return call_next(message, context)
    if kind == MessageType.TRAIN:
        from clients.mods.dp_update import answer_privately

        return answer_privately(message, context)
    if kind == STATISTICS:
        from clients.mods.dp_statistics import answer_noisy_statistics

        return answer_noisy_statistics(message, context)
    raise ProtocolError(
        f"{kind} in a run with differential privacy; expected train: statistics and validation "
        "counts would leave this site without noise"
    )
