"""A model's arrays as one array on the wire: a message costs by its objects more than by its bytes.

Each of Flower's arrays is stored, asked for and fetched as objects of its own. The one array holds
the bytes of a safetensors file, which are checked against their own table before anything is read.
"""

from collections.abc import Iterable

from flwr.app import Array, ArrayRecord, Message, RecordDict
from safetensors.numpy import load, save

from primia_flwr.errors import ProtocolError
from primia_flwr.messages.held import held, values_of
from primia_flwr.messages.keys import ARRAYS
from primia_flwr.storage.reading import reason_of

PACKED = "packed"
_FORM = "safetensors"


def pack(arrays: ArrayRecord) -> ArrayRecord:
    """Return a record of one array with the names, shapes, types and values of all `arrays`."""
    if len(arrays) < 2:
        return ArrayRecord(dict(arrays))  # Flower's own arrays, which the other end knows
    data = save(values_of(arrays))
    return ArrayRecord({PACKED: Array(dtype="uint8", shape=(len(data),), stype=_FORM, data=data)})


def unpack(record: ArrayRecord) -> ArrayRecord:
    """Return the arrays that `pack` was given, by name; a record that is not packed, as it is.

    Raises
    ------
    ProtocolError
        If the bytes are no safetensors file.
    """
    whole = record.get(PACKED)
    if whole is None or whole.stype != _FORM:
        return record
    try:
        found = load(whole.data)
    except Exception as error:  # on arbitrary bytes the parser raises several unrelated types
        raise ProtocolError(
            f"array {PACKED!r} cannot be read ({reason_of(error)}); expected safetensors"
        ) from None
    return held(found)


def pack_contents(messages: Iterable[Message]) -> None:
    """Pack the arrays of messages, once for all messages that share them."""
    known: dict[int, tuple[ArrayRecord, ArrayRecord]] = {}
    for message in messages:
        arrays = _arrays_of(message)
        if arrays is not None:
            known.setdefault(id(arrays), (arrays, pack(arrays)))
            message.content = RecordDict({**message.content, ARRAYS: known[id(arrays)][1]})


def unpack_content(message: Message) -> None:
    """Unpack the arrays of a message where it has any.

    Raises
    ------
    ProtocolError
        If they cannot be read.
    """
    arrays = _arrays_of(message)
    if arrays is not None:
        message.content = RecordDict({**message.content, ARRAYS: unpack(arrays)})


def _arrays_of(message: Message) -> ArrayRecord | None:
    return message.content.array_records.get(ARRAYS) if message.has_content() else None
