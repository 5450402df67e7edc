"""Secure aggregation in Flower's messages: record keys, layouts, and digests of what was told."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from primia_flwr.config.experiment.privacy import SUM_MODES
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import to_yaml
from primia_flwr.data.fingerprint.sums import length
from primia_flwr.data.size_bins import NUM_SIDE_BINS
from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.messages.held import values_of
from primia_flwr.messages.keys import ARRAYS, CONFIG, DECLINED, LABEL_COUNTS
from primia_flwr.primitives.keys import digest
from primia_flwr.privacy.mechanisms.aggregate import AggregateNoise, with_noise_for
from primia_flwr.privacy.mechanisms.shared_step import StepNoise
from primia_flwr.secagg.payload.layout import REAL_STEP, WEIGHT, Layout, Number
from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.secagg.protocol.graph import suggested_degree
from primia_flwr.secagg.protocol.parties import Floor, Session

SECAGG = "secagg"  # the record of a message that holds the protocol's own parts
ROUTE = "secagg"  # the query for setup, signatures and shares
KEYS, SHARES, MASK, SIGN, UNMASK = "keys", "shares", "mask", "sign", "unmask"
VOLUME_COUNTS = "volume-counts"  # of the statistics, where volumes are counted
MASKED = "masked"  # the record of a reply that holds the masked vectors
UPDATE, NUMBERS = "update", "numbers"
_RAW = "raw"  # nothing but the words, little-endian
_LITTLE: dict[str, np.dtype[Any]] = {"uint32": np.dtype("<u4"), "uint64": np.dtype("<u8")}

_FLOAT = np.dtype(np.float32)


def floor_of(experiment: Experiment) -> Floor:
    """Return what the experiment asks of every sum."""
    secure = experiment.aggregation
    return Floor(secure.min_survivors, secure.max_colluding, secure.accept_two)


def degree_of(experiment: Experiment, floor: Floor | None = None) -> int | None:
    """Return the degree of the sparse graph; None: everybody masks with everybody.

    Parameters
    ----------
    experiment : Experiment
        Names the degree and the sites.
    floor : Floor, optional
        What the asking side insists on; by default what the experiment asks. No less than it and
        no less than the experiment asks is counted on.

    Raises
    ------
    ConfigError
        If the graph is not good with `max_colluding` sites that work together with the
        coordinator and all but `min_sites` that drop out; see `suggested_degree`.
    """
    secure, federation = experiment.aggregation, experiment.federation
    if not secure.degree:
        return None
    floor = floor or floor_of(experiment)
    count, least = len(federation.sites), max(federation.min_sites, floor.min_survivors)
    colluding = max(secure.max_colluding, floor.max_colluding)
    good = suggested_degree(
        count,
        corrupt_fraction=min(colluding + 1, count - 1) / count,
        dropout_fraction=max(1 - least / count, 0.0),
    )
    if secure.degree % 2 or good is None or secure.degree < good.degree:
        rule = f"an even number, {good.degree} or more" if good else "0: no sparse graph is good"
        raise ConfigError(
            f"aggregation.degree={secure.degree}; expected {rule} for {count} sites, of which "
            f"max_colluding={colluding} may collude and all but min_sites={least} drop "
            "out; raise federation.min_sites or set 0, where every site masks with every other"
        )
    return secure.degree


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
    return Session(experiment.aggregation.run, keys)


def report_layout(experiment: Experiment, entries: int, outputs: int) -> Layout:
    """Return the layout of an update with its measurements; `entries=0`: measurements only.

    `entries`: of the whole update, also where sites send a part of it. In a run with differential
    privacy an update and a constant weight, because an exact sum of anything else has no finite
    epsilon.
    """
    entries = experiment.num_sent(entries) if entries else 0
    if experiment.privacy.enabled:
        return _layout(experiment, entries, [Number(WEIGHT)])
    counted = (WEIGHT, DECLINED, "resting", "examples", "batches", "images", "stopped-early")
    numbers = [Number(name) for name in counted]
    numbers += [Number(name, step=REAL_STEP) for name in ("seconds", "weighted-train-loss")]
    for prefix in ("incoming", "local"):
        numbers.append(Number(f"{prefix}-examples"))
        numbers.append(Number(f"{prefix}-loss-sum", step=REAL_STEP))
        numbers += [Number(f"{prefix}-{s.name}", s.size) for s in experiment.task.sums(outputs)]
    return _layout(experiment, entries, numbers)


def statistics_layout(experiment: Experiment, outputs: int) -> Layout:
    """Return the layout of the pixel statistics: sums of 8-bit levels are exact integers."""
    channels, labels = experiment.data.channels, experiment.task.label_sum(outputs)
    numbers = [
        Number("count"),
        Number("levels", channels),
        Number("squared-levels", channels),
        Number(LABEL_COUNTS, labels.size),
        Number("side-counts", NUM_SIDE_BINS),
        Number("num-val"),
    ]
    if experiment.data.volumes.fingerprint:
        numbers.append(Number(VOLUME_COUNTS, length(outputs)))
    return _layout(experiment, 0, numbers)


def _layout(experiment: Experiment, entries: int, numbers: list[Number]) -> Layout:
    clip, num_sites = experiment.aggregation.clip, len(experiment.federation.sites)
    if entries and experiment.privacy.mode in SUM_MODES:
        clip = aggregate_noise(experiment, entries).clip
    return Layout(entries, numbers, clip, experiment.largest_weight, num_sites)


def aggregate_noise(experiment: Experiment, entries: int) -> AggregateNoise:
    """Return scale and noise of a run whose noise is shared in the sum: alike at all its sites.

    `entries`: numbers that a site sends.

    Raises
    ------
    ConfigError
        If no noise is large enough for the configured epsilon.
    """
    privacy, secure = experiment.privacy, experiment.aggregation
    common: dict[str, Any] = {
        "noise_multiplier": privacy.noise_multiplier or 1.0,
        "clip_norm": privacy.clip_norm,
        "entries": entries,
        "num_sites": len(experiment.federation.sites),
        "survivors": secure.min_survivors,
        "knowing": max(privacy.max_knowing, secure.max_colluding),
    }
    noise = AggregateNoise(**common)
    if privacy.mode == "dp_sgd_shared":
        batch, rate = privacy.expected_batch, experiment.training.learning_rate
        noise = StepNoise(
            **common, sampling_rate=privacy.sampling_rate, weight=rate / batch, batch=batch
        )
    if privacy.noise_multiplier:
        return noise
    rounds = experiment.federation.rounds + privacy.repeats
    return with_noise_for(
        privacy.epsilon,
        privacy.delta,
        rounds=rounds,
        like=noise,
        statistics_noise=privacy.statistics_noise,
    )


# --- What was told -----------------------------------------------------------------------------


def model_digest(arrays: ArrayRecord) -> bytes:
    """Return the digest of a model, perhaps without arrays: their names, shapes, types, bytes."""
    parts: list[str | bytes] = []
    for name in sorted(arrays):
        array = arrays[name]
        shape = json.dumps([array.dtype, list(array.shape)])
        parts += [name, shape, hashlib.sha256(array.data).digest()]
    return digest("primia secagg v1 model", *parts)


def terms_of(experiment: Experiment, *, flower_run: int, bundle: str) -> bytes:
    """Return the digest of all that decides what a site does, but for the message itself.

    Parameters
    ----------
    experiment : Experiment
        The whole of it, as this side has parsed it from the run's configuration, before anything
        of it is replaced by what the site's own policy says.
    flower_run : int
        Flower's own number of the run, by which two runs that share `aggregation.run` differ.
    bundle : str
        SHA-256 of the code that this side knows to be running, 64 hex digits; nothing where no
        gate stands, as in a simulation.
    """
    return digest("primia secagg v2 terms", to_yaml(experiment), flower_run, bundle)


def transcript_hash(
    base: bytes, content: RecordDict, layout: Layout, message_type: str, *, terms: bytes
) -> bytes:
    """Return the digest of all that a message tells a site besides the protocol's own parts.

    `base`: of the model in it, see `base_of`. `terms`: of the run, see `terms_of`.

    Raises
    ------
    ProtocolError
        If the message holds a record that is not bound, or what has no one text.
    """
    if strange := sorted(set(content) - {ARRAYS, CONFIG}):
        raise ProtocolError(f"a message with {strange[0]!r:.60}; expected {ARRAYS} and {CONFIG}")
    config = content.config_records.get(CONFIG, ConfigRecord())
    try:
        text = json.dumps({key: config[key] for key in sorted(config)})
    except TypeError as error:
        raise ProtocolError(f"{CONFIG} ({error}); expected numbers and text, or lists") from None
    return digest("primia secagg v2 told", terms, message_type, base, text, repr(layout))


# --- Vectors -----------------------------------------------------------------------------------


def difference(
    after: Mapping[str, npt.NDArray[np.float32]], before: Mapping[str, npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    """Return `after - before` as one vector, array after array by sorted name.

    Raises
    ------
    ProtocolError
        If the arrays differ in names or shapes, or one is not float32.
    """
    if {k: v.shape for k, v in after.items()} != {k: v.shape for k, v in before.items()}:
        raise ProtocolError("the trained model has other arrays than the one that came")
    _check_float32(after)
    _check_float32(before)
    out, at = np.empty(sum(array.size for array in before.values()), np.float32), 0
    for name in sorted(before):
        part = out[at : at + before[name].size]
        np.subtract(after[name].ravel(), before[name].ravel(), out=part)
        at += part.size
    return out


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
    return values_of(record)


def _check_float32(arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
    for name, array in arrays.items():
        if array.dtype != _FLOAT:
            raise ProtocolError(f"array {name!r} is {array.dtype}; expected float32")


def pack_vectors(vectors: list[Vector]) -> ArrayRecord:
    """Return masked vectors, little-endian, as raw arrays, which Flower sends in pieces."""
    *update, numbers = vectors
    record = ArrayRecord({NUMBERS: _raw(numbers, "uint64")})
    if update:
        record[UPDATE] = _raw(update[0], "uint32")
    return record


def unpack_vectors(record: ArrayRecord, layout: Layout) -> list[Vector]:
    """Read what `pack_vectors` made; the vectors share the record's memory and are read-only.

    Raises
    ------
    ProtocolError
        If a vector is missing or of another kind or size.
    """
    vectors: list[Vector] = []
    if layout.entries:
        vectors.append(_vector(record, UPDATE, "uint32", layout.entries))
    size = sum(number.size for number in layout.numbers)
    vectors.append(_vector(record, NUMBERS, "uint64", size))
    return vectors


def _raw(vector: Vector, dtype: str) -> Array:
    data = vector.astype(_LITTLE[dtype], copy=False).tobytes()
    return Array(dtype=dtype, shape=vector.shape, stype=_RAW, data=data)


def _vector(record: ArrayRecord, key: str, dtype: str, size: int) -> Vector:
    array = record.get(key)
    if array is None:
        raise ProtocolError(f"{MASKED} has no {key}; expected {size} words of {dtype}")
    found = (array.dtype, tuple(array.shape), array.stype, len(array.data))
    expected = (dtype, (size,), _RAW, size * _LITTLE[dtype].itemsize)
    if found != expected:
        raise ProtocolError(
            f"{MASKED}.{key} (type, shape, form, bytes) is {found!s:.90}; expected {expected}"
        )
    vector: Vector = np.frombuffer(array.data, _LITTLE[dtype])
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
