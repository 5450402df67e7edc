"""Walks a traced network once and writes down its steps.

A max-pool that follows a ReLU moves before it (they commute, and fewer numbers are left to
compare); layers that read the same value share one opening.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from primia_flwr.errors import ConfigError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.lowering.windows import Window, adaptive, max_tree, strided
from primia_flwr.inference.plan import (
    Add,
    Average,
    Comparison,
    Concat,
    Difference,
    Enlarge,
    Flatten,
    Fork,
    Geometry,
    Linear,
    MaxLevel,
    Open,
    Pad,
    Relu,
    Reveal,
    Shape,
    Step,
)
from primia_flwr.models.layers.frames import apart, together
from primia_flwr.models.layers.same_padding import pad_same, same_padding

_SIX = 6


@dataclass(frozen=True)
class Weights:
    """A linear layer in fixed point, int64: `weight` 16 fractional bits, `bias` as a product."""

    weight: Tensor
    bias: Tensor


@dataclass
class Builder:
    """Walks the graph once; `values` maps a node to its value's number."""

    graph: fx.GraphModule
    input_shape: Shape
    steps: list[Step] = field(default_factory=list)
    weights: list[Weights] = field(default_factory=list)
    comparisons: int = 0
    compared: list[str] = field(default_factory=list)
    _values: dict[fx.Node, int] = field(default_factory=dict)
    _shapes: list[Shape] = field(default_factory=list)
    _openings: dict[int, int] = field(default_factory=dict)

    def add(self, node: fx.Node) -> None:
        """Lower one node."""
        if node.op == "placeholder":
            self._values[node] = self._new(self.input_shape)
        elif node.op == "output":
            value = self._value(node.args[0])
            self.steps.append(Reveal(value, self._shapes[value]))
        else:
            lowering = self._lowering(node)
            self._values[node] = lowering(self, node)

    def _lowering(self, node: fx.Node) -> "_Lowering":
        if node.op == "call_module":
            module = self.graph.get_submodule(str(node.target))
            found = _MODULES.get(type(module))
        else:
            found = _FUNCTIONS.get(node.target)
        if found is None:
            what = type(module).__name__ if node.op == "call_module" else node.target
            raise ConfigError(
                f"layer {node.name} ({what}) has no encrypted form; expected one of convolution, "
                "linear, batch norm, ReLU, ReLU6, max or average pooling, addition, nearest "
                "upsampling, concatenation, flatten"
            )
        return found

    def relu(self, node: fx.Node) -> int:
        """Lower a ReLU, unless the pooling after it will."""
        source = self._value(node.args[0])
        users = list(node.users)
        if len(users) == 1 and self._is_max_pool(users[0]):
            return source  # the pooling does it, on what it leaves
        return self._relu(source, node)

    def _relu(self, source: int, node: fx.Node) -> int:
        target = self._new(self._shapes[source])
        step = Relu(source, target, self.comparisons, self._shapes[source])
        self._compare(step, node.args[0])
        return target

    def relu6(self, node: fx.Node) -> int:
        """Lower min(max(x, 0), 6) as relu(x) - relu(x - 6), both in one comparison step."""
        source = self._value(node.args[0])
        images, *rest = shape = self._shapes[source]
        both = (2 * images, *rest)
        forked = self._new(both)
        self.steps.append(Fork(source, forked, _SIX, both))
        compared = self._relu(forked, node)
        target = self._new(shape)
        self.steps.append(Difference(compared, target, shape))
        return target

    def pad(self, node: fx.Node) -> int:
        """Lower `same` padding."""
        source = self._value(node.args[0])
        kernel: int = node.args[1]  # type: ignore[assignment]
        *rest, height, width = self._shapes[source]
        left, right, above, below = cells = same_padding(height, width, kernel)
        target = self._new((*rest, height + above + below, width + left + right))
        self.steps.append(Pad(source, target, cells, self._shapes[target]))
        return target

    def max_pool(self, node: fx.Node) -> int:
        """Lower a max-pool, and the ReLU before it after it."""
        pool: nn.MaxPool2d = self.graph.get_submodule(str(node.target))  # type: ignore[assignment]
        if pool.ceil_mode or _pair(pool.dilation) != (1, 1):
            raise ConfigError(
                f"layer {node.name} has ceil_mode={pool.ceil_mode}, dilation={pool.dilation}; "
                "expected a max-pool without"
            )
        kernel, stride, padding = (
            _pair(value) for value in (pool.kernel_size, pool.stride, pool.padding)
        )
        _, _, height, width = self._shapes[self._value(node.args[0])]
        rows = strided(height, kernel[0], stride[0], padding[0])
        columns = strided(width, kernel[1], stride[1], padding[1])
        return self._max(node, rows, columns)

    def global_max(self, node: fx.Node) -> int:
        """Lower a maximum over the whole map."""
        _, _, height, width = self._shapes[self._value(node.args[0])]
        return self._max(node, [(0, height)], [(0, width)])

    def _max(self, node: fx.Node, rows: list[Window], columns: list[Window]) -> int:
        """Maxima along the columns of each row first, then along the rows."""
        value, before = self._value(node.args[0]), node.args[0]
        waits = isinstance(before, fx.Node) and self._is_relu(before) and len(before.users) == 1
        compared = before.args[0] if waits else before  # type: ignore[union-attr]
        for axis, windows in ((3, columns), (2, rows)):
            for level in max_tree(self._shapes[value][axis], windows):
                if not any(b >= 0 for b in level.second):
                    raise ConfigError(
                        f"layer {node.name} takes cells out and compares none; expected a window "
                        "of two cells or more, or a stride of 1"
                    )
                shape = list(self._shapes[value])
                shape[axis] = len(level.first)
                source, value = value, self._new(tuple(shape))
                cells = (level.first, level.second, tuple(shape))
                self._compare(MaxLevel(source, value, self.comparisons, axis, *cells), compared)
        return self._relu(value, before) if waits else value  # type: ignore[arg-type]

    def average(self, node: fx.Node) -> int:
        """Lower an adaptive average pool."""
        pool: nn.AdaptiveAvgPool2d = self.graph.get_submodule(str(node.target))  # type: ignore[assignment]
        size = pool.output_size
        out = size if isinstance(size, tuple) else (size, size)
        source = self._value(node.args[0])
        images, channels, height, width = self._shapes[source]
        rows = adaptive(height, out[0] or height)
        columns = adaptive(width, out[1] or width)
        shape = (images, channels, len(rows), len(columns))
        target = self._new(shape)
        self.steps.append(Average(source, target, tuple(rows), tuple(columns), shape))
        return target

    def linear(self, node: fx.Node) -> int:
        """Lower a convolution or a linear layer, its weights in fixed point."""
        layer: nn.Conv2d | nn.Linear = self.graph.get_submodule(str(node.target))  # type: ignore[assignment]
        source = self._value(node.args[0])
        geometry, shape = self._geometry(layer, source)
        opening = self._opening(source)
        target = self._new(shape)
        weight = ring.encode(layer.weight.detach(), ring.WEIGHT_BITS)
        number = len(self.weights)
        bias = torch.zeros(weight.shape[0]) if layer.bias is None else layer.bias.detach()
        product_bits = ring.ACTIVATION_BITS + ring.WEIGHT_BITS
        self.weights.append(Weights(weight, ring.encode(bias, product_bits)))
        self.steps.append(Linear(opening, target, number, tuple(weight.shape), shape, geometry))
        return target

    def _geometry(self, layer: nn.Module, source: int) -> tuple[Geometry | None, Shape]:
        images, *rest = self._shapes[source]
        if isinstance(layer, nn.Linear):
            return None, (images, layer.out_features)
        assert isinstance(layer, nn.Conv2d)
        if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
            raise ConfigError(
                f"a convolution has padding={layer.padding}, {layer.padding_mode}; expected "
                "numbers and zeros"
            )
        geometry = Geometry(
            _pair(layer.stride), _pair(layer.padding), _pair(layer.dilation), layer.groups
        )
        moves = (geometry.stride, geometry.padding, geometry.dilation)
        sides = zip(rest[1:], layer.kernel_size, *moves, strict=True)
        sizes = [
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, pad, dilation in sides
        ]
        return geometry, (images, layer.out_channels, *sizes)

    def _opening(self, source: int) -> int:
        if source not in self._openings:
            self._openings[source] = len(self._openings)
            self.steps.append(Open(source, self._openings[source], self._shapes[source]))
        return self._openings[source]

    def add_values(self, node: fx.Node) -> int:
        """Lower a sum of two values."""
        left, right = (self._value(argument) for argument in node.args[:2])
        target = self._new(self._shapes[left])
        self.steps.append(Add(left, right, target, self._shapes[left]))
        return target

    def enlarge(self, node: fx.Node) -> int:
        """Lower an upsampling that repeats cells."""
        layer: nn.Upsample = self.graph.get_submodule(str(node.target))  # type: ignore[assignment]
        factor = layer.scale_factor
        if layer.mode != "nearest" or factor is None or factor != int(factor):  # type: ignore[arg-type]
            raise ConfigError(
                f"layer {node.name} has mode={layer.mode}, scale_factor={factor}, "
                f"size={layer.size}; expected nearest by a whole number, e.g. 2"
            )
        source, times = self._value(node.args[0]), int(factor)
        *rest, height, width = self._shapes[source]
        target = self._new((*rest, times * height, times * width))
        self.steps.append(Enlarge(source, target, times, self._shapes[target]))
        return target

    def concatenate(self, node: fx.Node) -> int:
        """Lower a concatenation of channels."""
        axis = node.kwargs.get("dim", node.args[1] if node.args[1:] else 0)
        if axis != 1:
            raise ConfigError(f"layer {node.name} joins along axis {axis}; expected axis 1")
        sources = tuple(self._value(one) for one in node.args[0])  # type: ignore[union-attr]
        images, _, *rest = self._shapes[sources[0]]
        channels = sum(self._shapes[source][1] for source in sources)
        target = self._new((images, channels, *rest))
        self.steps.append(Concat(sources, target, self._shapes[target]))
        return target

    def flatten(self, node: fx.Node) -> int:
        """Lower a flattening of all axes but the first."""
        source = self._value(node.args[0])
        images, *rest = self._shapes[source]
        start = node.args[1] if node.args[1:] else self._start_of_flatten(node)
        if start != 1:
            raise ConfigError(f"layer {node.name} flattens from axis {start}; expected axis 1")
        return self._reshaped(source, (images, int(torch.Size(rest).numel())))

    def apart(self, node: fx.Node) -> int:
        """Lower the frames of sequences as images of their own."""
        source = self._value(node.args[0])
        images, frames, *sides = self._shapes[source]
        return self._reshaped(source, (images * frames, 1, *sides))

    def together(self, node: fx.Node) -> int:
        """Lower the features of frames as maps of time by feature."""
        source, frames = self._value(node.args[0]), int(node.args[1])  # type: ignore[arg-type]
        rows, features = self._shapes[source]
        return self._reshaped(source, (rows // frames, 1, frames, features))

    def _reshaped(self, source: int, shape: Shape) -> int:
        target = self._new(shape)
        self.steps.append(Flatten(source, target, shape))
        return target

    def _start_of_flatten(self, node: fx.Node) -> int:
        if node.op != "call_module":
            return 0
        layer: nn.Flatten = self.graph.get_submodule(str(node.target))  # type: ignore[assignment]
        return layer.start_dim

    def same(self, node: fx.Node) -> int:
        """Lower a layer that changes nothing."""
        return self._value(node.args[0])

    def _compare(self, step: Comparison, compared: Any) -> None:
        """Add a step; `compared` is the node whose numbers, or differences of them, it compares."""
        self.steps.append(step)
        self.compared.append(compared.name)
        self.comparisons += 1

    def _new(self, shape: Shape) -> int:
        self._shapes.append(shape)
        return len(self._shapes) - 1

    def _value(self, argument: Any) -> int:
        if not isinstance(argument, fx.Node):
            raise ConfigError(f"a layer reads {argument!r}; expected the output of another layer")
        return self._values[argument]

    def _is_max_pool(self, node: fx.Node) -> bool:
        return self._kind(node) in (Builder.max_pool, Builder.global_max)

    def _is_relu(self, node: fx.Node) -> bool:
        return self._kind(node) is Builder.relu

    def _kind(self, node: fx.Node) -> "_Lowering | None":
        if node.op == "call_module":
            return _MODULES.get(type(self.graph.get_submodule(str(node.target))))
        return _FUNCTIONS.get(node.target)


def _pair(value: Any) -> tuple[int, int]:
    return (value[0], value[1]) if isinstance(value, tuple) else (value, value)


_Lowering = Callable[[Builder, fx.Node], int]
_MODULES: dict[type[nn.Module], _Lowering] = {
    nn.Conv2d: Builder.linear,
    nn.Linear: Builder.linear,
    nn.ReLU: Builder.relu,
    nn.ReLU6: Builder.relu6,
    nn.MaxPool2d: Builder.max_pool,
    nn.AdaptiveAvgPool2d: Builder.average,
    nn.Upsample: Builder.enlarge,
    nn.Identity: Builder.same,
    nn.Dropout: Builder.same,
    nn.Flatten: Builder.flatten,
}
_FUNCTIONS: dict[Any, _Lowering] = {
    torch.relu: Builder.relu,
    operator.add: Builder.add_values,
    operator.iadd: Builder.add_values,
    torch.add: Builder.add_values,
    torch.cat: Builder.concatenate,
    torch.flatten: Builder.flatten,
    pad_same: Builder.pad,
    apart: Builder.apart,
    together: Builder.together,
    "flatten": Builder.flatten,
    "amax": Builder.global_max,
}
