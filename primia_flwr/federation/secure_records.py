"""Secure aggregation in Flower's messages: record keys, layouts, and digests of what was told."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from primia_flwr.config.schema import Experiment
from primia_flwr.data.sides import NUM_SIDE_BINS
from primia_flwr.errors import ProtocolError
from primia_flwr.record_keys import ARRAYS, CONFIG
from primia_flwr.secagg.keys import digest
from primia_flwr.secagg.masks import Vector
from primia_flwr.secagg.parties import Floor, Session
from primia_flwr.secagg.payload import REAL_STEP, WEIGHT, Layout, Number

SECAGG = "secagg"  # the record of a message that holds the protocol's own parts
ROUTE = "secagg"  # the query for setup, signatures and shares
KEYS, SHARES, MASK, SIGN, UNMASK = "keys", "shares", "mask", "sign", "unmask"
UPDATE, NUMBERS = "update", "numbers"

FLOAT = np.dtype(np.float32)


def floor_of(experiment: Experiment) -> Floor:
    """Return what the experiment asks of every sum."""
    secure = experiment.strategy.secure
    return Floor(secure.min_survivors, secure.max_colluding, secure.accept_two)


def degree_of(experiment: Experiment) -> int | None:
    """Return the degree of the sparse graph; None: everybody masks with everybody."""
    return experiment.strategy.secure.degree or None


def session_of(experiment: Experiment, identities: Mapping[str, bytes]) -> Session:
    """Return the run among the experiment's sites, by their identity keys on the roster.

    Raises
    ------
    ProtocolError
        If the roster lacks a site of the experiment.
    """
    missing = sorted(set(experiment.federation.sites) - set(identities))
    if missing:
        raise ProtocolError(
            f"the roster has no identity key of {', '.join(missing)}; expected one of each site "
            "in federation.sites"
        )
    keys = {name: identities[name] for name in experiment.federation.sites}
    return Session(experiment.strategy.secure.run, keys)


def report_layout(experiment: Experiment, entries: int, num_classes: int) -> Layout:
    """Return the layout of an update with its measurements; `entries=0`: measurements only."""
    cells = num_classes**2
    return _layout(
        experiment,
        entries,
        [
            Number(WEIGHT),
            Number("resting"),
            Number("examples"),
            Number("batches"),
            Number("images"),
            Number("stopped-early"),
            Number("seconds", step=REAL_STEP),
            Number("weighted-train-loss", step=REAL_STEP),
            *(
                number
                for prefix in ("incoming", "local")
                for number in (
                    Number(f"{prefix}-examples"),
                    Number(f"{prefix}-loss-sum", step=REAL_STEP),
                    Number(f"{prefix}-confusion", cells),
                )
            ),
        ],
    )


def statistics_layout(experiment: Experiment, num_classes: int) -> Layout:
    """Return the layout of the pixel statistics: sums of 8-bit levels are exact integers."""
    channels = experiment.data.channels
    return _layout(
        experiment,
        0,
        [
            Number("count"),
            Number("levels", channels),
            Number("squared-levels", channels),
            Number("class-counts", num_classes),
            Number("side-counts", NUM_SIDE_BINS),
            Number("num-val"),
        ],
    )


def _layout(experiment: Experiment, entries: int, numbers: list[Number]) -> Layout:
    secure = experiment.strategy.secure
    return Layout(
        entries, numbers, secure.clip, secure.max_weight, len(experiment.federation.sites)
    )


# --- What was told -----------------------------------------------------------------------------


def base_of(arrays: ArrayRecord) -> bytes:
    """Return the digest of a model: names, shapes, types and bytes of its arrays."""
    parts: list[str | bytes] = []
    for name in sorted(arrays):
        array = arrays[name]
        shape = json.dumps([array.dtype, list(array.shape)])
        parts += [name, shape, hashlib.sha256(array.data).digest()]
    return digest("primia secagg v1 model", *parts)


def told_of(content: RecordDict, layout: Layout, message_type: str) -> bytes:
    """Return the digest of all that a message tells a site besides the protocol's own parts."""
    arrays = content.array_records.get(ARRAYS, ArrayRecord())
    config = content.config_records.get(CONFIG, ConfigRecord())
    text = json.dumps({key: config[key] for key in sorted(config)})
    return digest("primia secagg v1 told", message_type, base_of(arrays), text, repr(layout))


# --- Vectors -----------------------------------------------------------------------------------


def flatten(arrays: Mapping[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Lay arrays one after the other, by sorted name, as one float32 vector.

    Raises
    ------
    ProtocolError
        If an array is of another type.
    """
    for name, array in arrays.items():
        if array.dtype != FLOAT:
            raise ProtocolError(f"array {name!r} is {array.dtype}; expected float32")
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


def unflatten(
    vector: npt.NDArray[np.float32], like: Mapping[str, npt.NDArray[np.float32]]
) -> dict[str, npt.NDArray[np.float32]]:
    """Undo `flatten`: arrays of the shapes in `like`, which share the vector's memory."""
    arrays, at = {}, 0
    for name in sorted(like):
        size = like[name].size
        arrays[name] = vector[at : at + size].reshape(like[name].shape)
        at += size
    return {name: arrays[name] for name in like}


def numpy_arrays(record: ArrayRecord) -> dict[str, npt.NDArray[np.float32]]:
    """Return the arrays of a record."""
    return {name: array.numpy() for name, array in record.items()}


def pack_vectors(vectors: list[Vector]) -> ConfigRecord:
    """Return masked vectors as bytes, little-endian."""
    *update, numbers = vectors
    record = ConfigRecord({NUMBERS: numbers.astype("<u8", copy=False).tobytes()})
    if update:
        record[UPDATE] = update[0].astype("<u4", copy=False).tobytes()
    return record


def unpack_vectors(record: ConfigRecord, layout: Layout) -> list[Vector]:
    """Read what `pack_vectors` made, writable.

    Raises
    ------
    ProtocolError
        If a vector is missing or of another size.
    """
    vectors: list[Vector] = []
    if layout.entries:
        vectors.append(_vector(record, UPDATE, np.dtype("<u4"), layout.entries))
    size = sum(number.size for number in layout.numbers)
    vectors.append(_vector(record, NUMBERS, np.dtype("<u8"), size))
    return vectors


def _vector(record: ConfigRecord, key: str, dtype: np.dtype[np.generic], size: int) -> Vector:
    raw = record.get(key)
    expected = size * dtype.itemsize
    if not isinstance(raw, bytes) or len(raw) != expected:
        found = f"{len(raw)} bytes" if isinstance(raw, bytes) else repr(raw)[:60]
        raise ProtocolError(f"{SECAGG}.{key} is {found}; expected {expected} bytes")
    vector: Vector = np.frombuffer(bytearray(raw), dtype)
    return vector


def part(record: ConfigRecord, key: str) -> bytes | None:
    """Return one part of the protocol in a record, None where it is not there.

    Raises
    ------
    ProtocolError
        If it is not bytes.
    """
    value = record.get(key)
    if value is None or isinstance(value, bytes):
        return value
    raise ProtocolError(f"{SECAGG}.{key}={value!r:.60}; expected bytes")
