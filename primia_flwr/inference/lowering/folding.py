"""A trained network as convolutions, linear layers, ReLUs, pooling and additions, and nothing else.

Standardised kernels become plain ones: after training they are constants. Batch norms, and the
scales and shifts of a network without normalisation, are folded into the convolution before them;
one that has none before it becomes a convolution itself.
"""

import copy
import threading
from typing import cast

import torch
from torch import fx, nn
from torch.fx.experimental.optimization import fuse

from primia_flwr.errors import ConfigError
from primia_flwr.models.layers.scale_shift import ScaleShift
from primia_flwr.models.layers.weight_standardisation import WSConv2d, twin_of

_TRACING = threading.Lock()  # torch.fx patches every module's call while it traces


def folded(model: nn.Module) -> fx.GraphModule:
    """Trace a model in evaluation mode and fold what can be folded; the model stays as it is.

    Raises
    ------
    ConfigError
        If it has a norm that depends on the image.
    """
    _refuse_group_norm(model)
    plain = with_plain_kernels(model)
    with _TRACING:
        fused = cast(fx.GraphModule, fuse(plain, inplace=True))
    for node in fused.graph.nodes:
        if node.op == "call_module":
            _as_convolution(fused, node)
    return fused


def _as_convolution(graph: fx.GraphModule, node: fx.Node) -> None:
    """Make a batch norm before a convolution, and a plain average pool behind one, a convolution.

    Each acts on every channel by itself: one kernel a channel.
    """
    target, before = str(node.target), node.args[0]
    layer, source = graph.get_submodule(target), None
    if isinstance(before, fx.Node) and before.op == "call_module":
        source = graph.get_submodule(str(before.target))
    parent, _, name = target.rpartition(".")
    if isinstance(layer, nn.BatchNorm2d):
        setattr(graph.get_submodule(parent), name, _scaling(layer))
    elif type(layer) is nn.AvgPool2d and isinstance(source, nn.Conv2d) and _is_plain(layer):
        setattr(graph.get_submodule(parent), name, _averaging(layer, source.out_channels))


def _is_plain(pool: nn.AvgPool2d) -> bool:
    return pool.padding in (0, (0, 0)) and not pool.ceil_mode and pool.divisor_override is None


@torch.no_grad()
def _scaling(norm: nn.BatchNorm2d) -> nn.Conv2d:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    channels = norm.num_features
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    layer = nn.Conv2d(channels, channels, kernel_size=1, groups=channels, dtype=scale.dtype)
    layer.weight.copy_(scale.view(-1, 1, 1, 1))
    assert layer.bias is not None
    layer.bias.copy_(norm.bias - norm.running_mean * scale)
    return layer.eval()


@torch.no_grad()
def _averaging(pool: nn.AvgPool2d, channels: int) -> nn.Conv2d:
    layer = nn.Conv2d(
        channels, channels, pool.kernel_size, pool.stride, groups=channels, bias=False
    )
    layer.weight.fill_(1 / layer.weight[0, 0].numel())
    return layer.eval()


def through_front(front: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return what the public front of a model makes of images, while no thread traces another."""
    with _TRACING, torch.no_grad():
        return cast(torch.Tensor, front(images))


def with_plain_kernels(model: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode that computes the same, of PyTorch's own layers.

    A scale and shift becomes a batch norm with mean 0 and variance 1, which folding knows.
    """
    plain = copy.deepcopy(model).eval()
    for parent in list(plain.modules()):
        for name, child in parent.named_children():
            if isinstance(child, WSConv2d):
                setattr(parent, name, _plain_convolution(child))
            elif isinstance(child, ScaleShift):
                setattr(parent, name, _as_batch_norm(child))
    return plain


def _refuse_group_norm(model: nn.Module) -> None:
    """Refuse a normalisation that depends on the image: its variance would need a division."""
    for name, module in model.named_modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm | nn.InstanceNorm2d):
            raise ConfigError(
                f"model.norm=group ({name}: {type(module).__name__}); expected model.norm=none or "
                "batch: a norm over the image itself needs an encrypted square root and division, "
                "and cannot be folded into a convolution; train with model.norm=none, which "
                "privacy=dp_sgd takes, too, or, without it, with model.norm=batch"
            )


def _plain_convolution(layer: WSConv2d) -> nn.Conv2d:
    """Return the convolution with the kernel as the layer uses it."""
    plain = twin_of(layer, nn.Conv2d)
    with torch.no_grad():
        plain.weight = nn.Parameter(layer.standardised().used)
    plain.bias = layer.bias
    return plain.eval()


def _as_batch_norm(layer: ScaleShift) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(len(layer.weight), eps=0.0).to(layer.weight.dtype)
    norm.weight, norm.bias = layer.weight, layer.bias
    return norm.eval()
