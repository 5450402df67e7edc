"""From a PyTorch model of the closed table to a plan and its weights in fixed point.

Norms are folded into the convolutions before them (`folding`); a max-pool that follows a ReLU moves
before it (they commute, and fewer numbers are left to compare); layers that read the same value
share one opening.
"""

from dataclasses import dataclass

import torch
from torch import fx, nn

from primia_flwr.errors import ConfigError
from primia_flwr.inference.lowering.builder import Builder, Weights
from primia_flwr.inference.lowering.folding import folded, through_front
from primia_flwr.inference.plan import Plan, Shape
from primia_flwr.models.layers.front_end import split_front

COMPARE_BITS = 32


@dataclass(frozen=True)
class Lowered:
    """A plan and, in the order of their numbers, the weights that belong to it.

    `front`: public, computed on the images in the clear before all else. `node_of_comparison`: by
    comparison, the node of `graph` whose numbers it compares.
    """

    plan: Plan
    weights: tuple[Weights, ...]
    graph: fx.GraphModule
    node_of_comparison: tuple[str, ...]
    front: nn.Module


def lower(model: nn.Module, input_shape: Shape, *, compare_bits: int = COMPARE_BITS) -> Lowered:
    """Lower a model in evaluation mode.

    `model`: of `primia_flwr.models`; (N, C, H, W) to (N, classes). `input_shape`: (N, C, H, W).
    `compare_bits`: ring of every comparison, 8 to 64.

    Raises
    ------
    ConfigError
        If a layer is not in the table, or a number is out of range.
    """
    if not 8 <= compare_bits <= 64:
        raise ConfigError(f"compare_bits={compare_bits}; expected 8 to 64, e.g. {COMPARE_BITS}")
    front, behind = split_front(model)
    shape, graph = tuple(through_front(front, torch.zeros(input_shape)).shape), folded(behind)
    builder = Builder(graph, shape)
    for node in graph.graph.nodes:
        builder.add(node)
    plan = Plan(shape, tuple(builder.steps), (compare_bits,) * builder.comparisons)
    return Lowered(plan, tuple(builder.weights), graph, tuple(builder.compared), front)
