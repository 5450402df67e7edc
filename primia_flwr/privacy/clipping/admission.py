"""Which models may be clipped: a closed table of layers, and a trial that no image meets another.

The guarantee needs two things of a model: the gradient of a unit depends on that unit alone, and
nothing but the noisy gradient remembers it. Whatever could break that is refused by name, with the
reason and what to use instead.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from primia_flwr.errors import ConfigError
from primia_flwr.models.layers.scale_shift import ScaleShift
from primia_flwr.models.layers.weight_standardisation import WSConv2d

# Layers with parameters whose gradients the engines know how to clip.
_LAYERS = (nn.Conv2d, WSConv2d, nn.Linear, nn.GroupNorm, ScaleShift)
_USE = (
    "use model.norm=group, best with model.weight_standardisation=true, or model.norm=none, which "
    "can be served encrypted, too"
)


def check_model(model: nn.Module) -> None:
    """Refuse a model that differentially private training cannot train.

    Raises
    ------
    ConfigError
        Naming the layer, the reason and the replacement.
    """
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        where = f"layer {name or 'the model itself'} ({type(module).__name__})"
        _check_layer(where, module)
        _check_parameters(where, module, owners)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("the model has no trainable parameter; expected at least its head's")


def _check_layer(where: str, module: nn.Module) -> None:
    if isinstance(module, _BatchNorm):
        raise ConfigError(
            f"{where} normalises each image by the others of its batch, so one unit's data is "
            f"in every unit's gradient; {_USE}"
        )
    if next(module.buffers(recurse=False), None) is not None:
        raise ConfigError(
            f"{where} keeps a buffer, which would remember images without noise; {_USE}"
        )
    if getattr(module, "inplace", False):
        raise ConfigError(f"{where} changes in place what the engine keeps; set inplace=False")


def _check_parameters(where: str, module: nn.Module, owners: dict[int, str]) -> None:
    own = dict(module.named_parameters(recurse=False))
    trainable = [parameter for parameter in own.values() if parameter.requires_grad]
    if trainable and (type(module) not in _LAYERS or not own.keys() <= {"weight", "bias"}):
        raise ConfigError(
            f"{where} has trainable parameters that no engine can clip; expected only "
            f"{', '.join(layer.__name__ for layer in _LAYERS)}; freeze it or replace it"
        )
    for parameter in trainable:
        first = owners.setdefault(id(parameter), where)
        if first is not where:
            raise ConfigError(f"{where} shares a parameter with {first}; expected one of its own")
    if trainable and isinstance(module, nn.Conv2d):
        _check_padding(where, module)


def _check_padding(where: str, layer: nn.Conv2d) -> None:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ConfigError(
            f"{where} has padding={layer.padding!r} and padding_mode={layer.padding_mode!r}; "
            "expected numbers and zeros"
        )


def check_independence(model: nn.Module, images: Tensor) -> None:
    """Try out on noise that the output for one image does not depend on another.

    Parameters
    ----------
    model : nn.Module
        Images (N, C, H, W) to logits (N, classes).
    images : Tensor
        Of which only shape, dtype and device are read.

    Raises
    ------
    ConfigError
        If the gradient of one image's output by another image is not zero.
    """
    noise = torch.rand(2, *images.shape[1:], generator=torch.Generator().manual_seed(0))
    probe = noise.to(images.device, images.dtype)
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        probe.requires_grad_()
        output = model(probe)
        (gradient,) = torch.autograd.grad(output[0].sum(), probe, allow_unused=True)
    # A model that has diverged gives NaN: no sign of dependence, and an error would tell.
    meets = gradient is not None and bool(gradient[1].nan_to_num(0.0, 0.0, 0.0).any())
    if output.shape[0] != 2 or meets:
        raise ConfigError(
            "the model's output for one image depends on the other images of the batch, so one "
            f"unit's data would be in every unit's gradient; {_USE}"
        )


def refuse_mixup(probability: float) -> None:
    """Refuse MixUp, which blends images of different patients.

    Raises
    ------
    ConfigError
        If the probability is above 0.
    """
    if probability > 0:
        raise ConfigError(
            f"data.mixup.probability={probability} with privacy=dp_sgd; MixUp blends "
            "images of different patients, so a clipped gradient would hold more than one unit; "
            "set it to 0 and raise the number of views of each unit instead"
        )
