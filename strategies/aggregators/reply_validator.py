"""Look at every reply before it counts: a site that sends rubbish is left out, with a reason.

Nothing a site sends can end the round. Array bytes are checked against the model's shapes and
dtypes before they are read, so that a forged header costs no memory.
"""

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from numpy.lib import format as npy

from primia_flwr.errors import DivergenceError, ProtocolError
from primia_flwr.messages.held import HeldArray, chosen
from primia_flwr.messages.keys import (
    ARRAYS,
    DECLINED,
    INCOMING,
    LOCAL,
    METRICS,
    NUM_BATCHES,
    NUM_EXAMPLES,
    SITE,
    SITE_NAME,
    WEIGHT,
)
from primia_flwr.messages.records import get_evaluation
from primia_flwr.messages.refusals import failure_reason, has_diverged, refusal_reason
from primia_flwr.runs.checkpoint import ArrayMap
from primia_flwr.runs.history import DIVERGED, EVALUATED, FAILED, OK, REFUSED, REJECTED, SiteRow
from primia_flwr.storage.reading import reason_of
from primia_flwr.tasks.task import Evaluation, Task

_LONGEST_REASON = 300
_LARGEST_WEIGHT = _LARGEST_SUM = 1e15
_NUMPY_MAGIC = b"\x93NUMPY\x01\x00"
_LONGEST_HEADER = 1024
# What reading a forged reply may raise, besides a ProtocolError.
_UNREADABLE = (ArithmeticError, KeyError, TypeError, ValueError)


@dataclass(frozen=True)
class Update:
    """What a site wants averaged: its model and its weight.

    `arrays` are read-only views of the bytes in `packed`. `vector`: what is averaged in fixed
    point in place of their change. `loss`: of the model that came to the site, a mean over its
    validation images.
    """

    site: str
    weight: float
    arrays: ArrayMap
    packed: ArrayRecord
    vector: npt.NDArray[np.float32] | None = None
    loss: float | None = None


@dataclass(frozen=True)
class ValidatedReply:
    """A reply after the validation of replies; only `row` is there for one that was left out."""

    row: SiteRow
    update: Update | None = None
    incoming: Evaluation | None = None


class ReplyValidator:
    """Checks replies against the model that they must fit.

    Parameters
    ----------
    model : mapping of name to array
        The global model's float arrays; names, shapes and dtypes count.
    task : Task
        Whose evaluations come.
    outputs : int
        Width of the model's output.
    reports : bool
        Whether a site says how it has trained; not in private runs.
    """

    def __init__(
        self,
        model: Mapping[str, npt.NDArray[Any]],
        *,
        task: Task,
        outputs: int,
        reports: bool = True,
    ) -> None:
        self._model = {name: (array.shape, array.dtype) for name, array in model.items()}
        self._task, self._outputs, self._reports = task, outputs, reports

    def check(self, server_round: int, site: str, reply: Message) -> ValidatedReply:
        """Read one reply to a train or evaluate message; never raises for what it holds."""
        if reply.has_error():
            return ValidatedReply(error_row(server_round, site, reply))
        try:
            return self._read(server_round, site, reply)
        except ProtocolError as error:
            reason = str(error)
        except _UNREADABLE as error:
            reason = f"unreadable reply ({type(error).__name__}: {error})"
        return ValidatedReply(SiteRow(server_round, site, REJECTED, clean(reason)))

    def _read(self, server_round: int, site: str, reply: Message) -> ValidatedReply:
        check_name(reply, site)
        metrics = reply.content.metric_records.get(METRICS)
        if metrics is None:
            raise ProtocolError("the reply has no metrics; expected a record 'metrics'")
        if metrics.get(DECLINED):
            reason = "its training has diverged, or its update is out of range"
            return ValidatedReply(SiteRow(server_round, site, DIVERGED, reason))
        incoming = self._evaluation(metrics, INCOMING)
        local = self._evaluation(metrics, LOCAL)
        arrays = reply.content.array_records.get(ARRAYS)
        row = SiteRow(server_round, site, OK if arrays is not None else EVALUATED)
        _describe(row, metrics, local)
        if arrays is not None:
            return ValidatedReply(row, self._update(site, metrics, arrays), incoming)
        if incoming is None:
            raise ProtocolError("the reply has neither arrays nor a validation of the model")
        return ValidatedReply(row, incoming=incoming)

    def _update(self, site: str, metrics: MetricRecord, arrays: ArrayRecord) -> Update:
        weight = number(metrics, WEIGHT)
        if not 0 < weight <= _LARGEST_WEIGHT:
            raise ProtocolError(
                f"{WEIGHT}={weight:g}; expected a number above 0, at most {_LARGEST_WEIGHT:g}"
            )
        for key in (NUM_EXAMPLES, NUM_BATCHES, "train-loss") if self._reports else ():
            number(metrics, key)
        values = self.arrays(arrays)
        return Update(site, weight, values, chosen(arrays, self._model))

    def arrays(self, arrays: ArrayRecord) -> ArrayMap:
        """Return the values of a model's arrays, read-only.

        Raises
        ------
        ProtocolError
            If they are not as the model's, or not finite.
        """
        odd = sorted(arrays.keys() ^ self._model.keys())
        if odd:
            have = "unknown" if odd[0] in arrays else "missing"
            raise ProtocolError(f"array {odd[0]!r} is {have}; expected the model's own arrays")
        return {name: self._array(name, arrays[name]) for name in self._model}

    def _array(self, name: str, array: Array) -> npt.NDArray[Any]:
        shape, dtype = self._model[name]
        values = decode(name, array, shape, dtype)
        if not np.isfinite(values).all():
            bad = int(values.size - np.isfinite(values).sum())
            raise ProtocolError(f"array {name!r} has {bad} NaN or infinite entries; expected none")
        if name.endswith("running_var") and values.min(initial=0) < 0:
            raise ProtocolError(f"array {name!r} has negative entries; expected variances")
        return values

    def _evaluation(self, metrics: MetricRecord, prefix: str) -> Evaluation | None:
        evaluation = get_evaluation(metrics, prefix, self._task, self._outputs)
        if evaluation is None or evaluation.num_examples == 0:
            return None
        if evaluation.num_examples > _LARGEST_SUM:
            raise ProtocolError(
                f"{prefix}-num-examples={evaluation.num_examples}; expected at most "
                f"{_LARGEST_SUM:g}"
            )
        if not 0 <= evaluation.loss_sum <= _LARGEST_SUM:
            raise ProtocolError(
                f"{prefix}-loss-sum={evaluation.loss_sum:g}; expected 0 or more, and finite"
            )
        return evaluation


def decode(
    name: str, array: Array, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """Read an array's bytes, read-only and without a copy, if they hold what is expected.

    Raises
    ------
    ProtocolError
        If the stated or the actual shape, dtype or size is another one.
    """
    if isinstance(array, HeldArray):
        values = array.values
        if (values.shape, values.dtype) != (shape, dtype):
            raise ProtocolError(
                f"array {name!r} is {values.dtype} {values.shape}; expected {dtype} {shape}"
            )
        return values
    head = io.BytesIO(array.data[:_LONGEST_HEADER])
    if array.stype != "numpy.ndarray" or head.read(len(_NUMPY_MAGIC)) != _NUMPY_MAGIC:
        raise ProtocolError(f"array {name!r} is no NumPy array; expected the .npy format")
    try:
        found_shape, by_columns, found_dtype = npy.read_array_header_1_0(
            head, max_header_size=_LONGEST_HEADER
        )
    except Exception as error:  # NumPy tokenises and parses the header: anything may come out
        raise ProtocolError(f"array {name!r} has no readable header: {reason_of(error)}") from None
    if (found_shape, found_dtype) != (shape, dtype) or (by_columns and len(shape) > 1):
        raise ProtocolError(
            f"array {name!r} is {found_dtype} {found_shape}; expected {dtype} {shape}, row by row"
        )
    size, expected = len(array.data) - head.tell(), math.prod(shape) * dtype.itemsize
    if size != expected:
        raise ProtocolError(f"array {name!r} has {size} bytes of data; expected {expected}")
    return np.frombuffer(array.data, dtype=dtype, offset=head.tell()).reshape(shape)


def error_row(server_round: int, site: str, reply: Message) -> SiteRow:
    """Return the row of a reply that carries an error: a refusal or a failure."""
    text = reply.error.reason or f"error code {reply.error.code} without a reason"
    refusal = refusal_reason(text)
    if refusal is not None:
        return SiteRow(server_round, site, REFUSED, clean(refusal))
    status = DIVERGED if has_diverged(text) else FAILED
    return SiteRow(server_round, site, status, clean(failure_reason(text)))


def rejected_row(server_round: int, site: str, error: ProtocolError, hint: str = "") -> SiteRow:
    """Return the row of a reply whose content is refused, or out of range."""
    status = DIVERGED if isinstance(error, DivergenceError) else REJECTED
    return SiteRow(server_round, site, status, clean(f"{error}{hint}"))


def checked(
    server_round: int, name: str, reply: Message, take: Callable[[], None]
) -> SiteRow | None:
    """Take a reply; return a row only where it is an error or does not follow the protocol."""
    if reply.has_error():
        return error_row(server_round, name, reply)
    try:
        if not name.startswith("node "):
            check_name(reply, name)
        take()
    except ProtocolError as error:
        return SiteRow(server_round, name, REJECTED, clean(str(error)))
    except _UNREADABLE as error:
        reason = f"unreadable reply ({type(error).__name__}: {error})"
        return SiteRow(server_round, name, REJECTED, clean(reason))
    return None


def check_name(reply: Message, site: str) -> None:
    """Refuse a reply that comes under another site's name.

    Raises
    ------
    ProtocolError
        If the reply names another site.
    """
    record = reply.content.config_records.get(SITE, ConfigRecord())
    if record.get(SITE_NAME, site) != site:
        raise ProtocolError(f"answers as {record.get(SITE_NAME)!r}; expected {site!r}")


def number(metrics: MetricRecord, key: str) -> float:
    """Return one finite number of a reply's metrics.

    Raises
    ------
    ProtocolError
        If it is missing, a list, NaN or infinite.
    """
    value = metrics.get(key)
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    raise ProtocolError(f"{key}={value!r}; expected a finite number")


def clean(reason: str) -> str:
    """Return a reason as one printable line of bounded length: sites write it, people read it."""
    line = " ".join("".join(c if c.isprintable() else " " for c in reason).split())
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1] + "…"


def _describe(row: SiteRow, metrics: MetricRecord, local: Evaluation | None) -> None:
    """Fill in what the site reports of itself; anything odd in these fields stays empty."""
    row.num_examples = _whole(metrics, NUM_EXAMPLES)
    row.num_batches = _whole(metrics, NUM_BATCHES)
    row.epochs = _positive(metrics, "epochs")
    row.train_loss = _positive(metrics, "train-loss")
    row.images_per_second = _positive(metrics, "images-per-second")
    row.seconds = _positive(metrics, "seconds")
    stopped = _whole(metrics, "stopped-early")
    row.stopped_early = None if stopped is None else bool(stopped)
    if local is not None:
        row.validation = local.figures()


def _positive(metrics: MetricRecord, key: str) -> float | None:
    value = metrics.get(key)
    fits = isinstance(value, int | float) and math.isfinite(value) and value >= 0
    return float(value) if fits else None  # type: ignore[arg-type]


def _whole(metrics: MetricRecord, key: str) -> int | None:
    value = _positive(metrics, key)
    return None if value is None else int(value)
