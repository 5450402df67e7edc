"""A relay in Flower's messages: record keys, the bytes of a model, and sealed ones.

Imports no torch: a site says who it is and shows its key without one.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, MessageType, RecordDict

from primia_flwr.errors import ProtocolError

RELAY = "relay"  # the record of a message that holds the relay's own parts, and the query's route
QUERY = f"{MessageType.QUERY}.{RELAY}"
KEYS, HOP = "keys", "hop"
SEALED = "sealed"  # the record with a model that only the receiver can read
LINEAGE = "lineage"  # the record with a site's link in a reply, the key of all links in a message
LINK = "link"
ANCESTORS = "relay-ancestors"  # hexadecimal digests that the mod has found the links to lead to
FIRST = "first-weights"  # the record with the run's first weights, for who has not trained yet
_MODEL, _RAW = "model", "raw"

_Arrays = Mapping[str, npt.NDArray[Any]]


def model_bytes(arrays: _Arrays) -> bytes:
    """Return the values of arrays one after the other, by sorted name, little-endian."""
    return b"".join(_little(arrays[name]).tobytes() for name in sorted(arrays))


def model_of(raw: bytes, like: _Arrays) -> dict[str, npt.NDArray[Any]]:
    """Undo `model_bytes`: read-only arrays with the names, shapes and dtypes of `like`.

    Raises
    ------
    ProtocolError
        If there are more bytes or fewer.
    """
    expected = sum(array.nbytes for array in like.values())
    if len(raw) != expected:
        raise ProtocolError(
            f"a model of {len(raw)} bytes; expected {expected}, those of the configured model"
        )
    found, at = dict[str, npt.NDArray[Any]](), 0
    for name in sorted(like):
        array = like[name]
        values = np.frombuffer(raw, _little(array).dtype, array.size, at)
        found[name] = values.reshape(array.shape).astype(array.dtype, copy=False)
        at += array.nbytes
    return {name: found[name] for name in like}


def sealed_record(sealed: bytes) -> ArrayRecord:
    """Return sealed bytes as a raw array, which Flower sends in pieces."""
    array = Array(dtype="uint8", shape=(len(sealed),), stype=_RAW, data=sealed)
    return ArrayRecord({_MODEL: array})


def sealed_bytes(content: RecordDict) -> bytes:
    """Return the sealed bytes of a message; none where it has none.

    Raises
    ------
    ProtocolError
        If the record is another one.
    """
    record = content.array_records.get(SEALED)
    if record is None:
        return b""
    array = record.get(_MODEL)
    if array is None or len(record) != 1 or (array.dtype, array.stype) != ("uint8", _RAW):
        raise ProtocolError(f"{SEALED} holds {sorted(record)!s:.60}; expected raw bytes of a model")
    return bytes(array.data)


def relay_part(content: RecordDict, key: str) -> bytes | None:
    """Return one part of the relay's record in a message, None where it is not there.

    Raises
    ------
    ProtocolError
        If it is not bytes.
    """
    value = content.config_records.get(RELAY, ConfigRecord()).get(key)
    if value is not None and not isinstance(value, bytes):
        raise ProtocolError(f"{RELAY}.{key} is {type(value).__name__}; expected bytes")
    return value


def _little(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)
