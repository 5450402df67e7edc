"""A model travels as one array: unpacked before anybody looks at it, packed when it leaves."""

from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable

from primia_flwr.messages.packing import pack_contents, unpack_content


def packing_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Answer a message whose arrays may be packed.

    Raises
    ------
    ProtocolError
        If they cannot be unpacked.
    """
    unpack_content(message)
    reply = call_next(message, context)
    pack_contents([reply])
    return reply
