"""A site's plain answer as the vectors of a secure one."""

from flwr.app import ArrayRecord, Message, MetricRecord

from clients.member import SecureSite
from primia_flwr.errors import ProtocolError
from primia_flwr.federation import secure_records as wire
from primia_flwr.federation.audit import write_update
from primia_flwr.privacy.aggregate import clipped
from primia_flwr.record_keys import (
    ARRAYS,
    INCOMING,
    LOCAL,
    METRICS,
    NUM_BATCHES,
    NUM_CLASSES,
    NUM_EXAMPLES,
    NUM_VAL,
    RESTING,
    SITE,
    WEIGHT,
)
from primia_flwr.records import get_evaluation
from primia_flwr.secagg.fixed_point import Overflow
from primia_flwr.secagg.masks import Vector
from primia_flwr.secagg.payload import Layout, round_to_digits

Encoded = tuple[Layout, list[Vector]]


def report_vectors(site: SecureSite, message: Message, plain: Message) -> Encoded:
    """Lay out an update with its measurements, or measurements alone.

    Raises
    ------
    ProtocolError
        If the update is out of range, or the weight above `strategy.secure.max_weight`.
    """
    metrics = plain.content.metric_records[METRICS]
    before = wire.numpy_arrays(message.content.array_records[ARRAYS])
    trained = plain.content.array_records.get(ARRAYS, ArrayRecord())
    weight = _weight(site, metrics) if trained else 0
    values: dict[str, list[float]] = {
        "weight": [weight],
        "examples": [_rounded(site, metrics, NUM_EXAMPLES)],
        "batches": [_number(metrics, NUM_BATCHES)],
        "images": [round(_number(metrics, "epochs") * _number(metrics, NUM_EXAMPLES))],
        "resting": [_number(metrics, RESTING)],
        "stopped-early": [_number(metrics, "stopped-early")],
        "seconds": [_number(metrics, "seconds")],
        "weighted-train-loss": [weight * _number(metrics, "train-loss")],
    }
    for prefix in (INCOMING, LOCAL):
        evaluation = get_evaluation(metrics, prefix)
        if evaluation is not None:
            values[f"{prefix}-examples"] = [evaluation.num_examples]
            values[f"{prefix}-loss-sum"] = [evaluation.loss_sum]
            values[f"{prefix}-confusion"] = [int(n) for n in evaluation.confusion.ravel()]
    classes = int(plain.content.config_records[SITE][NUM_CLASSES])  # type: ignore[arg-type]
    secure = site.experiment.strategy.secure
    training = message.metadata.message_type == "train"
    update = None
    if trained:
        update = wire.difference(wire.numpy_arrays(trained), before)
    entries = sum(array.size for array in before.values()) if training else 0
    layout = wire.report_layout(site.experiment, entries, classes)
    if update is not None and secure.audit and site.simulated:
        write_update(site.folder, update, weight)
    overflow: Overflow = "clip" if secure.overflow == "clip" else "decline"
    if update is None or site.experiment.privacy.mode != "dp_aggregate":
        return layout, layout.encode(update, values, overflow=overflow)
    noise = wire.aggregate_noise(site.experiment, entries)
    encoded, *numbers = layout.encode(clipped(update, noise.clip_norm), values)
    noise.add_to(encoded)
    return layout, [encoded, *numbers]


def statistics_vectors(site: SecureSite, plain: Message) -> Encoded:
    """Lay out the pixel statistics; sums of 8-bit levels are whole numbers."""
    metrics = plain.content.metric_records[METRICS]
    counts = _list(metrics, "class_counts")
    layout = wire.statistics_layout(site.experiment, len(counts))
    values: dict[str, list[float]] = {
        "count": [round(v) for v in _list(metrics, "count")],
        "levels": [round(v * 255) for v in _list(metrics, "total")],
        "squared-levels": [round(v * 255**2) for v in _list(metrics, "total_squares")],
        "class-counts": [round(v) for v in counts],
        "side-counts": [round(v) for v in _list(metrics, "side_counts")],
        "num-val": [_number(metrics, NUM_VAL)],
    }
    return layout, layout.encode(None, values)


def _weight(site: SecureSite, metrics: MetricRecord) -> int:
    weight = round(_number(metrics, WEIGHT))
    if site.experiment.strategy.weighting == "images":
        weight = round_to_digits(weight, site.count_digits)
    most = site.experiment.strategy.largest_weight
    if weight > most:
        raise ProtocolError(
            f"this site's weight is {weight}; expected at most strategy.secure.max_weight={most}; "
            "have the coordinator raise it"
        )
    return weight


def _rounded(site: SecureSite, metrics: MetricRecord, key: str) -> int:
    return round_to_digits(round(_number(metrics, key)), site.count_digits)


def _number(metrics: MetricRecord, key: str) -> float:
    """Return one number of the site's own answer; 0 where it has none, e.g. where it rested."""
    value = metrics.get(key, 0)
    assert isinstance(value, int | float), key
    return value


def _list(metrics: MetricRecord, key: str) -> list[float]:
    value = metrics[key]
    return list(value) if isinstance(value, list) else [value]
