"""Models and measurements as Flower records.

Only floating-point tensors travel. Integer buffers (BatchNorm's `num_batches_tracked`, which
no model of the table reads) stay what they are at each end: averaging counters means nothing,
and leaving them out keeps one rule for plain and for secure aggregation.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord

from primia_flwr.errors import ProtocolError
from primia_flwr.messages.held import HeldArray, held, values_of
from primia_flwr.tasks.task import Evaluation, Task

_StateDict = Mapping[str, torch.Tensor]
_Arrays = Mapping[str, npt.NDArray[Any]]


def to_arrays(state: _StateDict) -> ArrayRecord:
    """Pack the floating-point tensors of a state dict.

    Parameters
    ----------
    state : mapping of name to tensor
        Any shapes and devices; integer tensors are left out.

    Returns
    -------
    ArrayRecord
        In the order of `state`, each a copy with the tensor's own dtype.
    """
    return held(
        {
            name: np.array(tensor.detach().cpu().contiguous().numpy())
            for name, tensor in state.items()
            if tensor.is_floating_point()
        }
    )


def load_arrays(module: torch.nn.Module, arrays: ArrayRecord) -> None:
    """Load the floating-point tensors of a message into a CPU model, leaving the others alone.

    Raises
    ------
    ProtocolError
        If a name, a shape or a dtype differs from the model's.
    """
    own = module.state_dict()
    expected = {name: tensor for name, tensor in own.items() if tensor.is_floating_point()}
    received = values_of(arrays)
    memory = {name: tensor.numpy() for name, tensor in expected.items()}
    _check_arrays(received, memory)
    for name, array in received.items():
        np.copyto(memory[name], array)


def _check_arrays(received: _Arrays, memory: _Arrays) -> None:
    if received.keys() != memory.keys():
        odd = sorted(received.keys() ^ memory.keys())
        raise ProtocolError(
            f"the model's arrays differ from the configured model in {odd[0]!r} "
            f"({len(odd)} names in all); expected the arrays of the same architecture"
        )
    for name, array in received.items():
        if (array.shape, array.dtype) != (memory[name].shape, memory[name].dtype):
            raise ProtocolError(
                f"array {name!r} is {array.dtype} {array.shape}; "
                f"expected {memory[name].dtype} {memory[name].shape}"
            )


def num_bytes(arrays: ArrayRecord) -> int:
    """Return the bytes that the arrays' data takes on the wire, framing left out."""
    return sum(
        array.nbytes if isinstance(array, HeldArray) else len(array.data)
        for array in arrays.values()
    )


def put_evaluation(metrics: MetricRecord, prefix: str, evaluation: Evaluation) -> None:
    """Add an evaluation to a metric record, as sums that add up over sites."""
    metrics[f"{prefix}-loss-sum"] = float(evaluation.loss_sum)
    metrics[f"{prefix}-num-examples"] = int(evaluation.num_examples)
    for name, counts in evaluation.counts.items():
        metrics[f"{prefix}-{name}"] = [int(n) for n in counts.ravel()]


def get_evaluation(
    metrics: MetricRecord, prefix: str, task: Task, outputs: int
) -> Evaluation | None:
    """Read an evaluation that `put_evaluation` wrote; None where there is none.

    Raises
    ------
    ProtocolError
        If it is none of the task's.
    """
    examples = metrics.get(f"{prefix}-num-examples")
    if examples is None:
        return None
    sums = {sum.name: metrics.get(f"{prefix}-{sum.name}", ()) for sum in task.sums(outputs)}
    loss = _number(metrics, f"{prefix}-loss-sum")
    try:
        return Evaluation.of(task, outputs, loss, _number(metrics, f"{prefix}-num-examples"), sums)
    except ProtocolError as error:
        raise ProtocolError(f"{prefix}-{error}") from None


def _number(metrics: MetricRecord, key: str) -> float:
    value = metrics.get(key)
    if isinstance(value, int | float):
        return float(value)
    raise ProtocolError(f"{key}={value!r}; expected one number")


def floats(config: ConfigRecord, key: str) -> tuple[float, ...]:
    """Return a list of numbers from a config record.

    Raises
    ------
    ProtocolError
        If the key is missing or holds something else.
    """
    value = config.get(key)
    if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
        return tuple(float(item) for item in value)
    raise ProtocolError(f"{key}={value!r}; expected a list of numbers")
