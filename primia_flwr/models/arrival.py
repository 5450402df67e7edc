"""What a site asks of the numbers of a model that arrives, before it trains it on its images.

Only what the coordinator sent is looked at, never an image. Norm layers get bounds that
training stays far below (`benchmarks/primia_bench/attacks/norm_ranges.py` measures what it makes),
because scale and bias alone can shut a network for all images but one, whose gradient the opened
sum then is (`primia attack target=crafted_model`). The check stops the crude form of that trap
only: one that is built from the kernels too stays within every bound, and the same attack shows it.
What bounds any crafted model is differential privacy. Without normalisation (`model.norm=none`)
scale and shift of each channel have the same bounds, and the scales of earlier layers are one more
way around them.

Source of the trap: Boenisch et al. 2021, When the Curious Abandon Honesty; Wen et al. 2022,
Fishing for User Data.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from primia_flwr.errors import ProtocolError
from primia_flwr.models.layers.scale_shift import ScaleShift

SHUT_RATIO = 4.0  # a normalised value passes 4 once in 30,000 times, were it normal
STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class ArrivalBounds:
    """The largest that each number of an arriving model may be; each bound itself is allowed.

    Attributes
    ----------
    max_scale, max_bias
        Magnitude of a norm layer's scale and bias.
    max_spread
        Largest magnitude of a norm layer's scale, over the median one of the layer.
    max_shut_share
        Share of a norm layer's channels that are shut: bias <= -4 |scale|.
    max_statistic
        Magnitude of batch norm's running mean and variance; the variance is at least 0.
    max_value
        Magnitude of every other parameter and buffer, kernels and classifier.
    """

    max_scale: float = 20.0
    max_bias: float = 10.0
    max_spread: float = 100.0
    max_shut_share: float = 0.95
    max_statistic: float = 1e9
    max_value: float = 100.0


DEFAULT_BOUNDS = ArrivalBounds()


def check_arrived(model: nn.Module, bounds: ArrivalBounds = DEFAULT_BOUNDS) -> None:
    """Refuse a model with numbers that no training makes.

    Parameters
    ----------
    model : nn.Module
        With the arrays as they arrived.
    bounds : ArrivalBounds
        Of this site.

    Raises
    ------
    ProtocolError
        Naming the first array out of bounds, its value and the bound. It tells of the model
        only; a site logs it, and answers as it answers to anything else.
    """
    in_norms = set[str]()
    for name, layer in norm_layers(model):
        _check_norm(name, layer, bounds)
        in_norms.update(f"{name}.{own}" for own in ("weight", "bias"))
    for name, array in model.state_dict().items():
        if not array.is_floating_point() or name in in_norms:
            continue
        if name.rpartition(".")[2] in STATISTICS:
            low = 0.0 if name.endswith("running_var") else -bounds.max_statistic
            _check_range(name, array, low, bounds.max_statistic)
        else:
            _check_range(name, array, -bounds.max_value, bounds.max_value)


def norm_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the norm layers that have a scale, with their names, in the model's order.

    What stands for one in a network without normalisation counts as one.
    """
    for name, layer in model.named_modules():
        kinds = _BatchNorm | nn.GroupNorm | nn.LayerNorm | ScaleShift
        if isinstance(layer, kinds) and layer.weight is not None:
            yield name, layer


def shut_share(scale: Tensor, bias: Tensor) -> float:
    """Return the share of channels, (C,) each, that let next to nothing through a rectifier."""
    return float((bias <= -SHUT_RATIO * scale.abs()).float().mean())


def spread(scale: Tensor) -> float:
    """Return the largest magnitude over the median one; infinite where the median is 0."""
    sizes = scale.abs().flatten()
    median = float(sizes.median())
    return float(sizes.max()) / median if median > 0 else float("inf")


def _check_norm(name: str, layer: nn.Module, bounds: ArrivalBounds) -> None:
    scale, bias = layer.weight, layer.bias
    assert isinstance(scale, Tensor)
    with torch.no_grad():
        _check_range(f"{name}.weight", scale, -bounds.max_scale, bounds.max_scale)
        found = spread(scale)
        if not found <= bounds.max_spread:
            raise _refused(
                f"{name}.weight has a largest magnitude of {found:.4g} times the median",
                f"at most {bounds.max_spread:g} times",
            )
        if not isinstance(bias, Tensor):
            return
        _check_range(f"{name}.bias", bias, -bounds.max_bias, bounds.max_bias)
        share = shut_share(scale, bias)
        if not share <= bounds.max_shut_share:
            raise _refused(
                f"{name}.bias shuts {share:.1%} of the channels (bias <= -{SHUT_RATIO:g} |scale|)",
                f"at most {bounds.max_shut_share:.0%}",
            )


def _check_range(name: str, array: Tensor, low: float, high: float) -> None:
    if not array.numel():
        return
    least, most = (float(value) for value in torch.aminmax(array.detach()))
    if low <= least and most <= high:  # false for NaN, which aminmax hands on
        return
    odd = least if not low <= least else most
    raise _refused(f"{name} has {odd:.6g}", f"finite numbers from {low:g} to {high:g}")


def _refused(found: str, expected: str) -> ProtocolError:
    return ProtocolError(
        f"the model that arrived: {found}; expected {expected}, which honest training keeps; it "
        "was crafted or has diverged: ask the coordinator"
    )
