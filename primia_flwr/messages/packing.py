"""A message as few objects on the wire: it costs by its objects more than by its bytes.

Flower stores, asks for and fetches every array and every record as an object of its own. Here the
arrays of a record become one array, the bytes of a safetensors file, which are checked against
their own table before anything is read; and what is small becomes one record.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from safetensors.numpy import load, save

from primia_flwr.errors import ProtocolError
from primia_flwr.messages.held import HeldArray, chosen, held, values_of
from primia_flwr.storage.reading import reason_of

PACKED = "packed"
_KINDS = ("config", "metrics", "arrays", "raw")
_Record = ArrayRecord | ConfigRecord | MetricRecord
_FORM, _RAW = "safetensors", "raw"
_SMALL = 1 << 16  # bytes of arrays that travel among what is small


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
    """Pack what messages hold, large arrays once for all messages that share them."""
    known: dict[int, tuple[ArrayRecord, ArrayRecord]] = {}
    for message in messages:
        if message.has_content():
            message.content = packed(message.content, known)


def packed(
    content: RecordDict, known: dict[int, tuple[ArrayRecord, ArrayRecord]] | None = None
) -> RecordDict:
    """Return records as few objects; `known` has the large ones that were packed before."""
    known = {} if known is None else known
    small, large = dict[str, Any](), RecordDict()
    for name, record in content.items():
        if not isinstance(record, ArrayRecord):
            kind = "config" if isinstance(record, ConfigRecord) else "metrics"
            small[f"{kind}/{name}"] = record.deflate()
        elif any(array.stype == _RAW for array in record.values()):
            few = {n: a for n, a in record.items() if a.stype == _RAW and len(a.data) <= _SMALL}
            small |= {f"raw/{name}": _save_raw(few)} if few else {}
            large[name] = chosen(record, [n for n in record if n not in few])
        elif sum(map(_size, record.values())) <= _SMALL:
            small[f"arrays/{name}"] = save(values_of(record))
        else:
            large[name] = known.setdefault(id(record), (record, pack(record)))[1]
    if len(small) < 2:
        return RecordDict({**content, **{n: r for n, r in large.items() if PACKED in r}})
    return RecordDict({PACKED: ConfigRecord(small), **{n: r for n, r in large.items() if r}})


def _size(array: Array) -> int:
    return array.nbytes if isinstance(array, HeldArray) else len(array.data)


def _save_raw(arrays: Mapping[str, Array]) -> bytes:
    return save({n: np.frombuffer(a.data, a.dtype).reshape(a.shape) for n, a in arrays.items()})


def unpack_content(message: Message) -> None:
    """Unpack what a message holds; where that cannot be done it stays as it is.

    Raises
    ------
    ProtocolError
        If it cannot be read.
    """
    if message.has_content():
        message.content = unpacked(message.content)


def unpacked(content: RecordDict) -> RecordDict:
    """Return the records that `packed` was given; what is not packed, as it is.

    Raises
    ------
    ProtocolError
        If a packed record is there twice or cannot be read.
    """
    found: dict[str, _Record] = {
        n: unpack(r) if isinstance(r, ArrayRecord) else r for n, r in content.items() if n != PACKED
    }
    for key, raw in content.config_records.get(PACKED, ConfigRecord()).items():
        kind, _, name = key.partition("/")
        if kind not in _KINDS or not isinstance(raw, bytes):
            raise ProtocolError(f"packed record {key!r:.90}; expected the bytes of a record")
        record = _read(key, kind, raw)
        found[name] = _joined(found[name], record, key) if name in found else record
    return RecordDict(found)


def _joined(record: _Record, few: _Record, key: str) -> ArrayRecord:
    """Return a record of arrays with the few that travelled apart from it."""
    apart = not set(record) & set(few)
    if isinstance(record, ArrayRecord) and isinstance(few, ArrayRecord) and apart:
        return chosen({**record, **few}, [*record, *few])
    raise ProtocolError(f"packed record {key!r:.90} is there twice; expected it once")


def _read(key: str, kind: str, raw: bytes) -> _Record:
    """Return a packed record.

    Raises
    ------
    ProtocolError
        If its bytes are not those of such a record.
    """
    try:
        if kind == "config":
            return ConfigRecord.inflate(raw)
        if kind == "metrics":
            return MetricRecord.inflate(raw)
        found = load(raw)
    except Exception as error:  # on arbitrary bytes the parsers raise several unrelated types
        raise ProtocolError(
            f"packed record {key!r:.90} cannot be read ({reason_of(error)}); expected {kind}"
        ) from None
    return held(found) if kind == "arrays" else ArrayRecord({n: _raw(v) for n, v in found.items()})


def _raw(values: npt.NDArray[Any]) -> Array:
    data = values.tobytes()
    return Array(dtype=str(values.dtype), shape=values.shape, stype=_RAW, data=data)
