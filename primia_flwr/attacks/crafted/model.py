"""A model made so that about one image in a sum gets any gradient below the classifier.

Every channel that enters the last rectifier is shut but one, and that one opens for about one
image in as many as the sites train on in a round: the rectifier's derivative is 0 for all the
others, so the sum over all sites is that image's gradient. Two kinds, a closed table:

- `norm`: by scale and bias of the last norm layer, shut by a bias of -10,000;
- `within_bounds`: as much as a site's check (`models.arrival`) allows. In each group of the norm
  one channel gets a kernel that makes it large and negative, so that the group's other channels
  are all a little above the mean, whatever the image; then a bias within the bounds, and a scale
  that it does not "shut", are enough.

In both the classifier's weights on the open channel are far apart, up to 0.25, so that the gradient
of an image of any class stands above the rounding of secure aggregation's fixed point. Which bias
lets one image in N through is chosen on images that are not the sites'.

Source of the idea: Boenisch et al. 2021, When the Curious Abandon Honesty; Wen et al. 2022,
Fishing for User Data in Large-Batch Federated Learning.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from primia_flwr.attacks.inversion.surrogate import SwitchedReLU
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import ConfigError
from primia_flwr.models.arrival import DEFAULT_BOUNDS, SHUT_RATIO, norm_layers
from primia_flwr.models.layers.scale_shift import ScaleShift

_SHUT = -1e4
_LOUD = 0.25  # largest weight of the classifier on the open channel
_FAINT = 0.01  # of a kernel that shall count for next to nothing
LIFT = 0.5  # by how much a lifted candidate gets through the trap
_CHUNK = 50  # images at once


@dataclass(frozen=True)
class Trap:
    """`channel` of the last norm layer is the one left open; how: one of `_CRAFTS`."""

    kind: str
    channel: int


def check_run(experiment: Experiment, kind: str) -> None:
    """Refuse a run whose model this trap is not made for.

    Raises
    ------
    ConfigError
        Naming the key, and why.
    """
    model = experiment.model
    if model.norm == "batch":
        raise ConfigError(
            "target=crafted_model of a run with model.norm=batch; expected group or none: with "
            "batch norm the gradient of each image depends on its whole batch, so none stands "
            "alone (which makes no run safe); simulate one with model.norm=group"
        )
    if model.trainable != "all":
        raise ConfigError(
            f"target=crafted_model of a run with model.trainable={model.trainable}; expected all: "
            "the images are sought in the kernels' gradients"
        )
    if experiment.privacy.promise:
        raise ConfigError(
            f"target=crafted_model of a run with privacy.mode={experiment.privacy.mode}; expected "
            "none: noise bounds what any model draws out (docs/differential-privacy.md), and this "
            "attack trains without it"
        )
    groups = model.norm_groups
    if kind == "within_bounds" and model.norm == "none":
        raise ConfigError(
            "crafted=within_bounds with model.norm=none; expected model.norm=group, of whose "
            "groups this trap is made; set crafted=norm"
        )
    if kind == "within_bounds" and (model.weight_standardisation or groups < 4):
        raise ConfigError(
            f"crafted=within_bounds with model.norm_groups={groups}, model.weight_standardisation="
            f"{str(model.weight_standardisation).lower()}; expected 4 groups or more and plain "
            "kernels, of which this trap is made; set crafted=norm"
        )


def set_trap(model: nn.Module, trap: Trap, public: Tensor, *, share: float) -> None:
    """Craft a model in place.

    `model`: with group norm or without normalisation; its kernels are the attacker's choice.
    `trap`: what to craft. `public`: (N, C, H, W) normalised: images of the attacker's own. `share`:
    of images that shall get through, in (0, 1]; at least one of the public ones does.
    """
    with torch.no_grad():
        _CRAFTS[trap.kind](model, trap.channel)
        _read_loudly(head_of(model)[1], trap.channel)
        norm = last_norm(model)
        norm.bias[trap.channel] = 0.0
        highest = ceilings(model, trap.channel, public).sort(descending=True).values
        through = min(max(1, round(share * len(public))), len(public) - 1)
        bias = -float(highest[through - 1] + highest[through]) / 2
        if trap.kind == "within_bounds":
            bias = max(bias, -DEFAULT_BOUNDS.max_bias)
        norm.bias[trap.channel] = bias


def last_norm(model: nn.Module) -> nn.GroupNorm | ScaleShift:
    """Return the layer whose scale and shift come before the last rectifier."""
    norms = [m for _, m in norm_layers(model) if isinstance(m, nn.GroupNorm | ScaleShift)]
    return norms[-1]


def head_of(model: nn.Module) -> tuple[str, nn.Linear]:
    """Return the classifier with its name."""
    return [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]


def ceilings(model: nn.Module, channel: int, images: Tensor) -> Tensor:
    """Return the highest value of a channel that enters the last rectifier, (N,)."""
    found: list[Tensor] = []

    def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found[-1:] = [inputs[0][:, channel].flatten(1).amax(dim=1)]  # of its last call only

    return _looking(model, _last_rectifier(model), look, found, images)


def getting_through(model: nn.Module, images: Tensor) -> Tensor:
    """Return which images, (N,) bool, have any gradient below the classifier."""
    found: list[Tensor] = []

    def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found[-1:] = [(inputs[0] > 0).any(dim=1)]

    return _looking(model, head_of(model)[1], look, found, images)


def lift(model: nn.Module, channel: int) -> None:
    """Let every candidate through the trap, by `LIFT` at the place where it is nearest to it.

    The attacker knows that the image it seeks got through; a candidate that does not has no
    gradient to compare, and one that hardly does has no way down. One that gets through by more
    is not changed. For the attacker's own copy of a model: hooks stay on it.
    """
    rises = [torch.zeros(())]

    def rise(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        only = torch.zeros(output.shape[1], device=output.device)
        only[channel] = 1.0
        return output + rises[0].to(output.device).view(-1, 1, 1, 1) * only.view(1, -1, 1, 1)

    def measure(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rises[0] = torch.zeros(())
        found: list[Tensor] = []

        def look(_: nn.Module, entering: tuple[Tensor, ...]) -> None:
            found[-1:] = [entering[0][:, channel].flatten(1).amax(dim=1)]

        hook = _last_rectifier(module).register_forward_pre_hook(look)
        with torch.no_grad():
            module.forward(inputs[0])
        hook.remove()
        rises[0] = (LIFT - found[0]).clamp(min=0)

    last_norm(model).register_forward_hook(rise)
    model.register_forward_pre_hook(measure)


def _shut_by_bias(model: nn.Module, _: int) -> None:
    norm = last_norm(model)
    norm.weight.fill_(1.0)
    norm.bias.fill_(_SHUT)


def _shut_by_kernels(model: nn.Module, channel: int) -> None:
    norm = last_norm(model)
    assert isinstance(norm, nn.GroupNorm)  # `check_run` lets no other in
    kernel = [m for m in model.modules() if isinstance(m, nn.Conv2d)][-1].weight
    size = norm.num_channels // norm.num_groups
    typical = float(kernel.std())
    norm.bias.fill_(-DEFAULT_BOUNDS.max_bias)
    norm.weight.fill_(1.05 * DEFAULT_BOUNDS.max_bias / SHUT_RATIO)
    for first in range(0, norm.num_channels, size):
        own = slice(first, first + size)
        if first <= channel < first + size:  # shut by the ratio: few enough are
            norm.weight[own] = 0.1
        else:
            kernel[own] *= _FAINT
            kernel[first] = -typical
    norm.weight[channel] = 1.0


def _read_loudly(head: nn.Linear, channel: int) -> None:
    """Give the classes weights that no class's is the mean of: 0, 1, 4, … over the last."""
    squares = torch.arange(head.out_features, device=head.weight.device).square()
    head.weight[:, channel] = _LOUD * squares / squares[-1]


_CRAFTS: dict[str, Callable[[nn.Module, int], None]] = {
    "norm": _shut_by_bias,
    "within_bounds": _shut_by_kernels,
}


def _last_rectifier(model: nn.Module) -> nn.Module:
    return [m for m in model.modules() if isinstance(m, nn.ReLU | SwitchedReLU)][-1]


def _looking(
    model: nn.Module,
    at: nn.Module,
    look: Callable[[nn.Module, tuple[Tensor, ...]], None],
    found: list[Tensor],
    images: Tensor,
) -> Tensor:
    """Run images through a model, `look` hooked to a part of it; join what it left in `found`."""
    hook, parts = at.register_forward_pre_hook(look), []
    with torch.no_grad():
        for part in torch.split(images, _CHUNK):
            model(part)
            parts.append(found.pop())
    hook.remove()
    return torch.cat(parts)
