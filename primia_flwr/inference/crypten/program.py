"""A network on CrypTen's tensors with CrypTen's own protocols: the yardstick, `protocol=crypten`.

Both parties trace the same architecture and fold its norms, then walk the same graph. The
images are the data owner's secret, the weights are the model owner's; the data owner's own
weights, which `build_model` drew at random from the public model card, give the shapes only.
Every product takes a Beaver triple, every comparison CrypTen's conversion to binary shares, every
maximum its argmax. Only the data owner learns the logits.

CrypTen pads a max-pool with -2^24 units at each party, not with minus infinity: it may be padded
only where its input is that of a ReLU.

Source: Knott et al. 2021 (CrypTen).
"""

import hashlib
import operator
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from primia_flwr.errors import ConfigError
from primia_flwr.inference.arithmetic.randomness import SEED_BYTES
from primia_flwr.inference.crypten.door import MPCTensor
from primia_flwr.inference.crypten.links import expect_role, tell_on_failure
from primia_flwr.inference.crypten.provider import TrustedDealer, asking
from primia_flwr.inference.crypten.session import PRECISION_BITS, session
from primia_flwr.inference.crypten.wire import DONE, SEED
from primia_flwr.inference.lowering.folding import folded
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.models.layers.frames import apart, together
from primia_flwr.models.layers.front_end import split_front
from primia_flwr.models.layers.same_padding import pad_same, same_padding

_DATA_OWNER, _MODEL_OWNER = 0, 1
_WHOLE = (1, (1, 1))


def run_data_owner(
    model_owner: Channel,
    dealer: Channel,
    architecture: nn.Module,
    images: Tensor,
    *,
    precision_bits: int = PRECISION_BITS,
) -> Tensor:
    """Have images classified by a model that this party does not see.

    Parameters
    ----------
    model_owner, dealer : Channel
        To the other two parties.
    architecture : nn.Module
        The model with any weights.
    images : Tensor
        (N, C, H, W) float, normalised as the model card says.
    precision_bits : int
        Fractional bits; the same at the model owner.

    Returns
    -------
    Tensor
        (N, classes) float32, the logits.

    Raises
    ------
    ConfigError
        If the images or a layer cannot be computed on.
    ServiceError, ProtocolError
        If a party fails; the others are told.
    """
    with tell_on_failure(model_owner, dealer):
        expect_role(model_owner, "model-owner")
        expect_role(dealer, "crypto-provider")
        front, behind = split_front(architecture)
        graph = fold(behind)
        _check_images(images)
        provider = TrustedDealer(bytes(dealer.receive(SEED, at_most=SEED_BYTES)))
        logits = compute(_DATA_OWNER, model_owner, provider, graph, front(images), precision_bits)
        return cast(Tensor, logits)


def run_model_owner(
    data_owner: Channel,
    dealer: Channel,
    model: nn.Module,
    input_shape: tuple[int, ...],
    *,
    precision_bits: int = PRECISION_BITS,
) -> None:
    """Classify images that this party does not see; it learns nothing.

    Parameters
    ----------
    data_owner, dealer : Channel
        To the other two parties.
    model : nn.Module
        With its weights.
    input_shape : tuple of int
        (N, C, H, W) of the images.
    precision_bits : int
        Fractional bits; the same at the data owner.

    Raises
    ------
    ConfigError
        If the shape or a layer cannot be computed on.
    ServiceError, ProtocolError
        If a party fails; the others are told.
    """
    with tell_on_failure(data_owner, dealer):
        expect_role(data_owner, "data-owner")
        expect_role(dealer, "crypto-provider")
        front, behind = split_front(model)
        graph, unseen = fold(behind), torch.zeros(input_shape)
        _check_images(unseen)
        provider = TrustedDealer(bytes(dealer.receive(SEED, at_most=SEED_BYTES)), asking(dealer))
        compute(_MODEL_OWNER, data_owner, provider, graph, front(unseen), precision_bits)
        dealer.send(DONE)


def compute(
    party: int,
    other: Channel,
    provider: Any,
    graph: fx.GraphModule,
    images: Tensor,
    precision_bits: int = PRECISION_BITS,
) -> Tensor | None:
    """Compute one party's part with any provider; return the logits at the data owner.

    Of the model owner's images and of the data owner's weights only the shapes are used.
    """
    agreement = describe(graph, tuple(images.shape), precision_bits)
    with session(party, other, provider, agreement=agreement, precision_bits=precision_bits):
        return infer(graph, images)


def infer(graph: fx.GraphModule, images: Tensor) -> Tensor | None:
    """Encrypt, compute and reveal to the data owner, in a session that has begun."""
    encrypted = MPCTensor(images.float(), src=_DATA_OWNER)
    result: Any = _Encrypted(graph).run(encrypted)
    logits: Tensor | None = result.get_plain_text(dst=_DATA_OWNER)
    return logits


def fold(model: nn.Module) -> fx.GraphModule:
    """Trace a model, fold its norms into convolutions, and check each layer of the result.

    Raises
    ------
    ConfigError
        If a layer has no encrypted form.
    """
    graph = folded(model)
    for node in graph.graph.nodes:
        if not _computable(graph, node):
            what = graph.get_submodule(node.target) if node.op == "call_module" else node.target
            raise ConfigError(
                f"layer {node.name} ({what}) has no encrypted form under protocol=crypten; "
                "expected a model of primia_flwr.models: convolutions, linear layers, batch norm, "
                "ReLU, ReLU6, max-pooling (padded only after a ReLU), global pooling, additions, "
                "flatten(1)"
            )
    return graph


def describe(graph: fx.GraphModule, input_shape: tuple[int, ...], precision_bits: int) -> bytes:
    """Return the SHA-256 of what both parties must have alike: all but images and weights."""
    lines = [f"primia crypten v1 {precision_bits} bits {tuple(input_shape)}"]
    for node in graph.graph.nodes:
        what = _layer(graph, node) or getattr(node.target, "__name__", node.target)
        lines.append(f"{node.name} = {node.op} {what} {node.args} {node.kwargs}")
    return hashlib.sha256("\n".join(lines).encode()).digest()


class _Encrypted(fx.Interpreter):
    """Walks a graph with CrypTen's tensors in place of PyTorch's."""

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = self.fetch_attr(target)
        return _MODULES[type(module)](module, args[0])

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _FUNCTIONS[target](*args, **kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _FUNCTIONS[target](*args, **kwargs)


def _weight(values: Tensor) -> Any:
    return MPCTensor(values.detach(), src=_MODEL_OWNER)


def _convolution(layer: nn.Conv2d, x: Any) -> Any:
    geometry = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    out = x.conv2d(_weight(layer.weight), **geometry)
    return out if layer.bias is None else out + _weight(layer.bias.reshape(1, -1, 1, 1))


def _linear(layer: nn.Linear, x: Any) -> Any:
    out = x.matmul(_weight(layer.weight.t()))
    return out if layer.bias is None else out + _weight(layer.bias)


def _max_pool(layer: nn.MaxPool2d, x: Any) -> Any:
    return x.max_pool2d(layer.kernel_size, padding=layer.padding, stride=layer.stride)


def _global_max(x: Any, dim: tuple[int, int], keepdim: bool) -> Any:
    largest, _ = x.flatten(2).max(dim=-1)
    return largest.reshape(*largest.size(), 1, 1)


def _global_average(layer: nn.AdaptiveAvgPool2d, x: Any) -> Any:
    height, width = x.size()[2:]
    return x.avg_pool2d((height, width if layer.output_size in _WHOLE else 1))


def _relu6(layer: nn.ReLU6, x: Any) -> Any:
    return x.relu() - (x - layer.max_val).relu()


def _pad_same(x: Any, kernel: int) -> Any:
    height, width = x.size()[2:]
    return x.pad(same_padding(height, width, kernel))


def _apart(x: Any, frames: int) -> Any:
    return x.reshape(-1, 1, *x.size()[2:])


def _together(x: Any, frames: int) -> Any:
    return x.reshape(-1, 1, frames, x.size()[1])


def _flatten(x: Any, start_dim: int) -> Any:
    return x.flatten(start_dim)


def _computable(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Say whether a layer is in the table, with no setting that CrypTen has otherwise."""
    if node.op in ("placeholder", "output"):
        return True
    if node.op != "call_module":
        return node.target in _FUNCTIONS
    layer = _layer(graph, node)
    if isinstance(layer, nn.Conv2d):
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if isinstance(layer, nn.MaxPool2d):
        plain = not layer.ceil_mode and not layer.return_indices and layer.dilation in (1, (1, 1))
        after_relu = isinstance(_layer(graph, node.args[0]), nn.ReLU)
        return plain and (after_relu or layer.padding in (0, (0, 0)))
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        return layer.output_size in (*_WHOLE, (1, None))
    return type(layer) in _MODULES


def _layer(graph: fx.GraphModule, node: Any) -> nn.Module | None:
    is_module = isinstance(node, fx.Node) and node.op == "call_module"
    return graph.get_submodule(str(node.target)) if is_module else None


def _check_images(images: Tensor) -> None:
    if images.dim() != 4 or not images.is_floating_point() or not bool(images.isfinite().all()):
        raise ConfigError(
            f"images are {images.dtype} {tuple(images.shape)}; expected finite floats "
            "(N, C, H, W), e.g. (1, 1, 224, 224)"
        )


_MODULES: dict[type[nn.Module], Callable[[Any, Any], Any]] = {
    nn.Conv2d: _convolution,
    nn.Linear: _linear,
    nn.ReLU: lambda _, x: x.relu(),
    nn.ReLU6: _relu6,
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveAvgPool2d: _global_average,
    nn.Flatten: lambda layer, x: x.flatten(layer.start_dim),
    nn.Identity: lambda _, x: x,
}
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    operator.add: operator.add,
    operator.iadd: operator.add,
    torch.flatten: _flatten,
    pad_same: _pad_same,
    apart: _apart,
    together: _together,
    "flatten": _flatten,
    "amax": _global_max,
}
