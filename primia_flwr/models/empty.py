"""A model whose weights come next: built without a random number that nobody would use."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.registry import build_model

_DRAWN = frozenset(
    {
        Tensor.normal_,
        Tensor.uniform_,
        nn.init.uniform_,
        nn.init.normal_,
        nn.init.trunc_normal_,
        nn.init.kaiming_uniform_,
        nn.init.kaiming_normal_,
    }
)


class _NothingDrawn(TorchFunctionMode):
    """Within it PyTorch's random initialisations leave a tensor as it is; constants are written."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _DRAWN:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def empty_model(cfg: ModelConfig, *, outputs: int, channels: int) -> nn.Module:
    """Build a model for weights that are loaded next: no random number is drawn for it.

    A parameter that starts at random holds whatever was in the memory; all that no training changes
    is there. The parameters are those of `build_model`; neither `cfg.weights` nor the global
    generator is touched.

    Raises
    ------
    ConfigError
        As `build_model`.
    """
    with _NothingDrawn():
        return build_model(cfg, outputs=outputs, channels=channels, first_weights=False)


def statistics_arrays(cfg: ModelConfig, *, outputs: int, channels: int) -> frozenset[str]:
    """Return the names of the arrays that are no parameters, e.g. the statistics of batch norm."""
    with torch.device("meta"):
        model = build_model(cfg, outputs=outputs, channels=channels, first_weights=False)
    return frozenset(model.state_dict()) - frozenset(name for name, _ in model.named_parameters())
