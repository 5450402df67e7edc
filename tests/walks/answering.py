"""The ClientApp as the coordinator hears it: its replies are unpacked, as the grid does it."""

from __future__ import annotations

from flwr.app import Context, Message

from clients import client_app
from primia_flwr.messages.packing import unpack_content


def app(message: Message, context: Context) -> Message:
    """Answer a message; return the reply with its records by their names."""
    reply = client_app.app(message, context)
    unpack_content(reply)
    return reply
