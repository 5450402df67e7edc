"""From a PyTorch model of the closed table to a plan and its weights in fixed point.

BatchNorm is folded into the convolution before it; a max-pool that follows a ReLU moves before
it (they commute, and fewer numbers are left to compare); layers that read the same value share
one opening.
"""

import threading
from dataclasses import dataclass

from torch import fx, nn
from torch.fx.experimental.optimization import fuse

from primia_flwr.crypto.builder import Builder, Weights
from primia_flwr.crypto.plan import Plan, Shape
from primia_flwr.errors import ConfigError

COMPARE_BITS = 32
_TRACING = threading.Lock()  # torch.fx patches modules while it traces


@dataclass(frozen=True)
class Lowered:
    """A plan and, in the order of their numbers, the weights that belong to it.

    `node_of_comparison`: by comparison, the node of `graph` whose numbers it compares.
    """

    plan: Plan
    weights: tuple[Weights, ...]
    graph: fx.GraphModule
    node_of_comparison: tuple[str, ...]


def lower(model: nn.Module, input_shape: Shape, *, compare_bits: int = COMPARE_BITS) -> Lowered:
    """Lower a model in evaluation mode.

    Parameters
    ----------
    model : nn.Module
        Of `primia_flwr.models`; (N, C, H, W) to (N, classes).
    input_shape : tuple of int
        (N, C, H, W).
    compare_bits : int
        Ring of every comparison, 8 to 64.

    Raises
    ------
    ConfigError
        If a layer is not in the table, or a number is out of range.
    """
    if not 8 <= compare_bits <= 64:
        raise ConfigError(f"compare_bits={compare_bits}; expected 8 to 64, e.g. {COMPARE_BITS}")
    refuse_group_norm(model)
    with _TRACING:
        graph: fx.GraphModule = fuse(model.eval())  # type: ignore[assignment]
    builder = Builder(graph, input_shape)
    for node in graph.graph.nodes:
        builder.add(node)
    plan = Plan(input_shape, tuple(builder.steps), (compare_bits,) * builder.comparisons)
    return Lowered(plan, tuple(builder.weights), graph, tuple(builder.compared))


def refuse_group_norm(model: nn.Module) -> None:
    """Refuse a normalisation that depends on the image: its variance would need a division.

    Raises
    ------
    ConfigError
        Naming the layer.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm | nn.InstanceNorm2d):
            raise ConfigError(
                f"model.norm=group ({name}: {type(module).__name__}); expected model.norm=batch: "
                "a norm over the image itself needs an encrypted square root and division, and "
                "cannot be folded into a convolution; train with model.norm=batch"
            )
