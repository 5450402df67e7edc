"""Optimisers, and their state as named tensors that can be stored without pickles."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.errors import CheckpointError
from primia_flwr.training.device import cpu_copy

_Groups = list[dict[str, Any]]


def _sgd(groups: _Groups, cfg: TrainingConfig) -> Optimizer:
    nesterov = cfg.momentum > 0
    return SGD(groups, lr=cfg.learning_rate, momentum=cfg.momentum, nesterov=nesterov, fused=True)


def _adam(groups: _Groups, cfg: TrainingConfig) -> Optimizer:
    return Adam(groups, lr=cfg.learning_rate, betas=(cfg.betas[0], cfg.betas[1]), fused=True)


def _adamw(groups: _Groups, cfg: TrainingConfig) -> Optimizer:
    return AdamW(groups, lr=cfg.learning_rate, betas=(cfg.betas[0], cfg.betas[1]), fused=True)


def _rmsprop(groups: _Groups, cfg: TrainingConfig) -> Optimizer:
    return RMSprop(groups, lr=cfg.learning_rate)


def _adagrad(groups: _Groups, cfg: TrainingConfig) -> Optimizer:
    return Adagrad(groups, lr=cfg.learning_rate)


OPTIMIZERS: dict[str, Callable[[_Groups, TrainingConfig], Optimizer]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
}
# The tensors that each keeps for a parameter.
_SLOTS = {
    "sgd": {"momentum_buffer"},
    "adam": {"step", "exp_avg", "exp_avg_sq"},
    "adamw": {"step", "exp_avg", "exp_avg_sq"},
    "rmsprop": {"step", "square_avg"},
    "adagrad": {"step", "sum"},
}


def build_optimizer(model: nn.Module, cfg: TrainingConfig) -> Optimizer:
    """Build the optimiser; weight decay acts on tensors of two or more dimensions only."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: _Groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": cfg.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return OPTIMIZERS[cfg.optimizer]([group for group in groups if group["params"]], cfg)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def pack_state(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Copy an optimiser's state to the CPU, as `<parameter>/<slot>` -> contiguous tensor."""
    return {
        f"{name}/{slot}": cpu_copy(value)
        for name, parameter in model.named_parameters()
        for slot, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def unpack_state(
    optimizer: Optimizer, model: nn.Module, state: Mapping[str, Tensor], *, kind: str
) -> None:
    """Load what `pack_state` returned into a fresh optimiser of the same kind.

    Raises
    ------
    CheckpointError
        If the state belongs to another model or another kind of optimiser.
    """
    parameters = dict(model.named_parameters())
    for key, value in state.items():
        name, _, slot = key.rpartition("/")
        parameter = parameters.get(name)
        if parameter is None or slot not in _SLOTS[kind]:
            raise CheckpointError(
                f"optimiser state {key!r} does not belong to this model and {kind}; "
                "expected the state of the same run; delete it or set optimizer_state=reset"
            )
        if slot != "step" and value.shape != parameter.shape:
            raise CheckpointError(
                f"optimiser state {key!r} is {tuple(value.shape)}; expected "
                f"{tuple(parameter.shape)}; delete it or set optimizer_state=reset"
            )
        optimizer.state[parameter][slot] = _like(parameter, slot, value)


def _like(parameter: nn.Parameter, slot: str, value: Tensor) -> Tensor:
    """Copy to the parameter's device, and for all but the step counter to its memory layout."""
    if slot == "step":
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
