"""The first weights of a model: from a file, or ImageNet weights from torchvision or a package.

Files are read without executing anything in them: safetensors, or `torch.load` restricted to
tensors. The classifier starts fresh where its size differs; everything else must fit.
"""

import pickle
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from primia_flwr.compat import torchvision
from primia_flwr.errors import ConfigError
from primia_flwr.storage.reading import reason_of

IMAGENET = "imagenet"


def load_first_weights(
    model: nn.Module, source: str, state: dict[str, Tensor], *, stem: str, head: str
) -> None:
    """Load arrays into a model.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    source : str
        Where they come from, for messages: `imagenet`, or a path.
    state : dict
        The arrays by name, as `first_state` returns them; changed.
    stem : str
        Name of the first kernel, (out, in, h, w); adapted to the model's input channels. Empty
        where there is none.
    head : str
        Prefix of the classifier's names.

    Raises
    ------
    ConfigError
        If a tensor does not fit, or nothing is left to load.
    """
    own = model.state_dict()
    if stem in state and stem in own:
        state[stem] = adapt_channels(state[stem], channels=own[stem].shape[1])
    _drop_other_head(state, own, head)
    _check_fits(source, state, own, head)
    if not state:
        raise ConfigError(
            f"model.weights={source} has a classifier of another size and nothing else; expected "
            "weights that fit, with as many classes and channels; or set model.weights=none"
        )
    model.load_state_dict({**own, **state})


def adapt_channels(kernel: Tensor, *, channels: int) -> Tensor:
    """Adapt the first kernel (out, in, h, w) to another number of input channels.

    From colour to grey the kernel is summed over its input channels: a grey image gives then
    what the colour model gives for that image repeated in each channel. From grey to colour
    each channel gets a third, which undoes the sum.
    """
    if kernel.shape[1] == channels:
        return kernel
    grey = kernel.sum(dim=1, keepdim=True)
    return (grey / channels).repeat(1, channels, 1, 1)


def read_state(path: Path, *, key: str = "model.weights") -> dict[str, Tensor]:
    """Read a state dict from a .safetensors or .pth file, onto the CPU; `key` is named in errors.

    Raises
    ------
    ConfigError
        If the file is missing, damaged, or holds more than tensors.
    """
    if not path.is_file():
        raise ConfigError(f"{key}={path}; no such file; expected a .safetensors or .pth")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on arbitrary bytes PyTorch raises almost anything
        raise ConfigError(
            f"{key}={path} cannot be read ({_first_line(error)}); expected a state dict "
            "of tensors only; save one with safetensors or torch.save(model.state_dict(), …)"
        ) from None
    if isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values()):
        return dict(state)
    raise ConfigError(
        f"{key}={path} holds no plain state dict; expected names and tensors; "
        "save it with torch.save(model.state_dict(), …)"
    )


def first_state(source: str, *, torchvision_name: str) -> dict[str, Tensor]:
    """Return the arrays of a file (.safetensors, .pth), or those of ImageNet from torchvision.

    Raises
    ------
    ConfigError
        If they cannot be had or read.
    """
    return _download(torchvision_name) if source == IMAGENET else read_state(Path(source))


def _download(name: str) -> dict[str, Tensor]:
    weights = torchvision.models.get_model_weights(name).DEFAULT
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise ConfigError(
            f"model.weights=imagenet cannot be downloaded from {weights.url} ({reason}); "
            "expected a network connection; or give a file, e.g. "
            f"model.weights={Path(weights.url).name}"
        ) from None


def _drop_other_head(state: dict[str, Tensor], own: dict[str, Tensor], head: str) -> None:
    """Forget a classifier of another size or form; the model's own stays as it was drawn."""
    theirs = {name: value.shape for name, value in state.items() if name.startswith(f"{head}.")}
    ours = {name: value.shape for name, value in own.items() if name.startswith(f"{head}.")}
    if theirs != ours:
        for name in theirs:
            del state[name]


def _check_fits(source: str, state: dict[str, Tensor], own: dict[str, Tensor], head: str) -> None:
    body = {name for name in own if not name.startswith(f"{head}.")}
    missing = sorted(body - state.keys() - _counters(body))
    unknown = sorted(state.keys() - own.keys())
    if missing or unknown:
        problem = f"has no {missing[0]!r}" if missing else f"has an unknown {unknown[0]!r}"
        raise ConfigError(
            f"model.weights={source} {problem} ({len(missing)} missing, {len(unknown)} unknown); "
            "expected the weights of the same model.name and model.norm"
        )
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise ConfigError(
                f"model.weights={source}: {name!r} is {tuple(value.shape)}; expected "
                f"{tuple(own[name].shape)}; give the weights of the same model.name"
            )


def _counters(names: set[str]) -> set[str]:
    """Names of batch norm's step counters, which older files lack and no model reads."""
    return {name for name in names if name.endswith(".num_batches_tracked")}


def _first_line(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):  # PyTorch's own text advises to load it anyway
        return "no weights file, or one that holds more than tensors"
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    return reason_of(error)
