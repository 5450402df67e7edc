"""Nothing leaves a site that the table of `clients.leaving` does not have."""

from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable

from clients.leaving import leaving
from clients.site.node import experiment_of


def leaving_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Answer a message to which something may leave, and send of the reply what may.

    Raises
    ------
    ProtocolError
        If the message, or anything of the reply, is not in the table.
    """
    allowed, kind = leaving(experiment_of(context)), message.metadata.message_type
    allowed.check_asked(kind)
    reply = call_next(message, context)
    allowed.check_reply(kind, reply.content)
    return reply
