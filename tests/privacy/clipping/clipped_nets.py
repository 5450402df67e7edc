"""Nets, batches and sums by hand that the tests of this folder share."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from primia_flwr.models.layers.scale_shift import ScaleShift
from primia_flwr.models.layers.weight_standardisation import WSConv2d


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits, targets, reduction="none")


def odd_net(*, standardised: bool = False) -> nn.Module:
    """Return a small float64 net with every kind of layer and odd geometries."""
    torch.manual_seed(3)
    convolution = WSConv2d if standardised else nn.Conv2d
    return nn.Sequential(
        convolution(2, 6, (3, 2), stride=(2, 1), padding=(1, 2)),
        nn.GroupNorm(3, 6),
        nn.ReLU(),
        convolution(6, 8, 3, padding=2, dilation=2, bias=False),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        convolution(8, 4, 3, stride=3, padding=1, groups=2),
        convolution(4, 5, 1, stride=2, bias=False),
        nn.AdaptiveAvgPool2d((1, 2)),
        nn.Flatten(),
        nn.Linear(10, 3),
    ).double()


def norm_free_net() -> nn.Module:
    """Return a small float64 net of scaled kernels, scales (one of them 0) and shifts."""
    torch.manual_seed(3)
    net = nn.Sequential(
        WSConv2d(2, 6, (3, 2), stride=(2, 1), padding=(1, 2)),
        ScaleShift(6),
        nn.ReLU(),
        WSConv2d(6, 8, 3, padding=2, dilation=2, bias=False),
        ScaleShift(8),
        nn.ReLU(),
        WSConv2d(8, 4, 3, stride=3, padding=1, groups=2),
        nn.AdaptiveAvgPool2d((1, 2)),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).double()
    for number, layer in enumerate(net):
        if isinstance(layer, WSConv2d):
            layer.kernel_scale = (0.3, 0.0, 0.0, 0.07, 0.0, 0.0, 2.5)[number]
        if isinstance(layer, ScaleShift):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
            with torch.no_grad():
                layer.weight[2] = 0.0
    return net


def batch(images: int, *, size: int = 11, channels: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randn(images, channels, size, size, generator=generator, dtype=torch.float64)
    return pixels, torch.randint(0, 3, (images,), generator=generator)


def unit_gradients(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    views: int,
    *,
    losses: Callable[..., Tensor] = cross_entropy,
) -> Tensor:
    """Return (units, entries) by torch.func: vmap of the gradient of each unit's mean loss."""
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    own = dict(model.named_parameters())
    trainable = {name: own[name].detach() for name in names}

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return losses(functional_call(model, parameters, (x,)), y).mean()

    by_unit = vmap(grad(loss), in_dims=(None, 0, 0))(
        trainable,
        images.view(-1, views, *images.shape[1:]),
        targets.view(-1, views, *targets.shape[1:]),
    )
    return torch.cat([by_unit[name].flatten(1) for name in names], dim=1)


def clipped(gradients: Tensor, clip_norm: float) -> Tensor:
    """Return the sum of the rows, each cut to a norm."""
    norms = gradients.norm(dim=1, keepdim=True)
    return (gradients * (clip_norm / norms).clamp(max=1)).sum(dim=0)


def flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])
