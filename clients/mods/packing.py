"""A message travels as few objects: unpacked before anybody looks, packed when it leaves."""

from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable

from primia_flwr.messages.packing import pack_contents, unpack_content


def packing_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Answer a message that may be packed.

    Raises
    ------
    ProtocolError
        If it cannot be unpacked.
    """
    unpack_content(message)
    reply = call_next(message, context)
    pack_contents([reply])
    return reply
