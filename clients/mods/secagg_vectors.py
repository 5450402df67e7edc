"""A site's plain answer as the vectors of a secure one."""

import logging
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Message, MessageType, MetricRecord, RecordDict

from clients.leaving import leaving
from clients.site.held_update import Held
from clients.site.identity import SecureSite
from primia_flwr.config.experiment.privacy import SUM_MODES
from primia_flwr.errors import DivergenceError
from primia_flwr.messages import secure as wire
from primia_flwr.messages.keys import (
    ARRAYS,
    CONFIG,
    DECLINED,
    INCOMING,
    LOCAL,
    METRICS,
    NUM_BATCHES,
    NUM_EXAMPLES,
    NUM_VAL,
    OUTPUTS,
    RESTING,
    ROUND,
    SITE,
    WEIGHT,
)
from primia_flwr.messages.sharing import VECTOR
from primia_flwr.pipeline.verify_sums import write_update
from primia_flwr.secagg.payload.fixed_point import Overflow
from primia_flwr.secagg.payload.layout import Layout, round_to_digits
from primia_flwr.secagg.payload.masks import Vector

logger = logging.getLogger(__name__)

_Vector = npt.NDArray[np.float32]
_Arrays = Mapping[str, _Vector]
_Encoded = tuple[Layout, list[Vector]]


def report_vectors(site: SecureSite, message: Message, plain: Message) -> _Encoded:
    """Lay out an update with its measurements, or measurements alone.

    What does not fit the agreed ranges (a training that diverged, an update beyond `clip`, a
    weight above `max_weight`) is answered all the same: the sum then shows how many sites declined
    and nothing else. Whether a site answers would tell how its numbers compare with what the
    coordinator chose, and a sum without it would be over fewer sites.
    """
    outputs = _outputs(plain)
    before = _trained(site, message, outputs)
    training = message.metadata.message_type == "train"
    entries = sum(array.size for array in before.values()) if training else 0
    layout = wire.report_layout(site.experiment, entries, outputs)
    if leaving(site.experiment).noised:
        return layout, _private_vectors(site, layout, before, plain)
    try:
        update = _own_update(site, before, plain)
        return layout, _measured_vectors(
            site, layout, update, plain.content.metric_records[METRICS]
        )
    except DivergenceError as error:
        logger.warning("this site declines, and spoils the sum: %s", error)
        return layout, layout.spoiled({DECLINED: [1]})


def held_update(site: SecureSite, message: Message, plain: Message) -> Held:
    """Return what the site keeps of an answer until it is asked for it, and what it was told."""
    outputs = _outputs(plain)
    before = _trained(site, message, outputs)
    layout = wire.report_layout(site.experiment, sum(a.size for a in before.values()), outputs)
    config = message.content.config_records[CONFIG]
    metrics = dict(plain.content.metric_records[METRICS])
    return Held(
        number=int(config[ROUND]),  # type: ignore[arg-type]
        base=wire.model_digest(message.content.array_records[ARRAYS]),
        told=told_to_train(site, message.content, layout),
        entries=layout.entries,
        outputs=outputs,
        metrics=metrics,
        update=None if metrics.get(DECLINED) else _own_update(site, before, plain),
    )


def told_to_train(site: SecureSite, content: RecordDict, layout: Layout) -> str:
    """Return the digest of what a site was told when it was sent a model, 64 hex digits."""
    base = wire.model_digest(content.array_records[ARRAYS])
    return wire.transcript_hash(base, content, layout, MessageType.TRAIN, terms=site.terms).hex()


def held_vectors(site: SecureSite, held: Held, discount: float) -> _Encoded:
    """Lay out an update that the site held, as `report_vectors` does one that it has just made."""
    layout = wire.report_layout(site.experiment, held.entries, held.outputs)
    try:
        vectors = _measured_vectors(
            site, layout, held.update, MetricRecord(held.metrics), discount=discount
        )
    except DivergenceError as error:
        logger.warning("this site declines, and spoils the sum: %s", error)
        vectors = layout.spoiled({DECLINED: [1]})
    return layout, vectors


def _outputs(plain: Message) -> int:
    return int(plain.content.config_records[SITE][OUTPUTS])  # type: ignore[arg-type]


def _trained(site: SecureSite, message: Message, outputs: int) -> _Arrays:
    """Return the arrays of the model that came which training changes."""
    arrays = wire.numpy_arrays(message.content.array_records[ARRAYS])
    model, channels = site.experiment.model, site.experiment.data.channels
    if model.sends_all:
        return arrays
    from primia_flwr.models.frozen_arrays import frozen_arrays, without  # brings in torch

    return without(arrays, frozen_arrays(model, outputs=outputs, channels=channels))


def _own_update(site: SecureSite, before: _Arrays, plain: Message) -> _Vector | None:
    """Return the update in a plain answer; None where it has none."""
    trained = plain.content.array_records.get(ARRAYS, ArrayRecord())
    return _update(site, wire.numpy_arrays(trained), before) if trained else None


def _measured_vectors(
    site: SecureSite,
    layout: Layout,
    update: _Vector | None,
    metrics: MetricRecord,
    *,
    discount: float = 1.0,
) -> list[Vector]:
    """Encode what the site measured; its update counts `discount` times."""
    if metrics.get(DECLINED):
        raise DivergenceError("the training gave no usable numbers")
    weight = 0 if update is None else _weight(site, metrics)
    secure = site.experiment.aggregation
    if update is not None and site.experiment.debug.verify_sums and site.simulated:
        write_update(site.folder, update, weight)
    overflow: Overflow = "clip" if secure.overflow == "clip" else "decline"
    report = _report(site, metrics, weight)
    return layout.encode(update, report, overflow=overflow, discount=discount)


def _private_vectors(
    site: SecureSite, layout: Layout, before: _Arrays, plain: Message
) -> list[Vector]:
    """Encode a private update with its weight of 1; noise that is shared is added here."""
    mode, secure = site.experiment.privacy.mode, site.experiment.aggregation
    trained = wire.numpy_arrays(plain.content.array_records[ARRAYS])
    update = _update(site, trained, before)
    values = {WEIGHT: [1]}
    if mode not in SUM_MODES:
        overflow: Overflow = "clip" if secure.overflow == "clip" else "decline"
        return layout.encode(update, values, overflow=overflow)
    if not np.isfinite(update).all():  # an error would tell it; no change and noise do not
        update = np.zeros_like(update)
    noise = wire.aggregate_noise(site.experiment, layout.entries)
    encoded, *numbers = layout.encode(noise.bounded(update), values)
    noise.add_to(encoded)
    return [encoded, *numbers]


def _update(site: SecureSite, trained: _Arrays, before: _Arrays) -> npt.NDArray[np.float32]:
    """Return what is sent as one vector, in the order of the arrays' names.

    A shared step comes as the update itself: subtracting models of float32 would round it in a way
    that depends on every unit.
    """
    if site.experiment.sends_a_vector:
        return trained[VECTOR]
    if site.experiment.privacy.mode == "dp_sgd_shared":
        return np.concatenate([trained[name].ravel() for name in sorted(before)])
    return wire.difference(trained, before)


def _report(site: SecureSite, metrics: MetricRecord, weight: int) -> dict[str, list[float]]:
    """Return the table's numbers by name.

    Counts of training images are rounded as the site's policy says. Validation counts are not:
    the counts of the task add up to them.
    """
    images = round(_number(metrics, "epochs") * _number(metrics, NUM_EXAMPLES))
    values: dict[str, list[float]] = {
        WEIGHT: [weight],
        "examples": [_rounded(site, _number(metrics, NUM_EXAMPLES))],
        "batches": [_rounded(site, _number(metrics, NUM_BATCHES))],
        "images": [_rounded(site, images)],
        "resting": [_number(metrics, RESTING)],
        "stopped-early": [_number(metrics, "stopped-early")],
        "seconds": [_number(metrics, "seconds")],
        "weighted-train-loss": [weight * _number(metrics, "train-loss")],
    }
    for prefix in (INCOMING, LOCAL):
        if f"{prefix}-num-examples" in metrics:
            values |= _verdict(site, metrics, prefix)
    return values


def _verdict(site: SecureSite, metrics: MetricRecord, prefix: str) -> dict[str, list[float]]:
    names = [f"{prefix}-{counted.name}" for counted in site.experiment.task.sums(1)]
    return {
        f"{prefix}-examples": [_number(metrics, f"{prefix}-num-examples")],
        f"{prefix}-loss-sum": [_number(metrics, f"{prefix}-loss-sum")],
        **{name: _list(metrics, name) for name in names},
    }


def statistics_vectors(site: SecureSite, plain: Message) -> _Encoded:
    """Lay out the pixel statistics; sums of 8-bit levels are whole numbers."""
    metrics = plain.content.metric_records[METRICS]
    outputs = _outputs(plain)
    layout = wire.statistics_layout(site.experiment, outputs)
    values: dict[str, list[float]] = {
        "count": [round(v) for v in _list(metrics, "count")],
        "levels": [round(v * 255) for v in _list(metrics, "total")],
        "squared-levels": [round(v * 255**2) for v in _list(metrics, "total_squares")],
        "label-counts": [round(v) for v in _list(metrics, "label_counts")],
        "side-counts": [round(v) for v in _list(metrics, "side_counts")],
        "num-val": [_rounded(site, _number(metrics, NUM_VAL))],
    }
    if site.experiment.data.volumes.fingerprint:
        values[wire.VOLUME_COUNTS] = [round(v) for v in _list(metrics, "volume_counts")]
    return layout, layout.encode(None, values)


def _weight(site: SecureSite, metrics: MetricRecord) -> int:
    weight = round(_number(metrics, WEIGHT))
    if site.experiment.strategy.weighting != "equal":
        weight = _rounded(site, weight)
    most = site.experiment.largest_weight
    if weight > most:
        raise DivergenceError(
            f"this site's weight is {weight}; expected at most aggregation.max_weight={most}; "
            "have the coordinator raise it"
        )
    return weight


def _rounded(site: SecureSite, count: float) -> int:
    return round_to_digits(round(count), site.count_digits)


def _number(metrics: MetricRecord, key: str) -> float:
    """Return one number of the site's own answer; 0 where it has none, e.g. where it rested."""
    value = metrics.get(key, 0)
    assert isinstance(value, int | float), key
    return value


def _list(metrics: MetricRecord, key: str) -> list[float]:
    value = metrics[key]
    return list(value) if isinstance(value, list) else [value]
