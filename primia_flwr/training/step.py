"""One training step: forward, loss, backward, proximal term, correction, clipping, update."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.training.evaluate import autocast
from primia_flwr.training.optimizer import (
    build_optimizer,
    pack_state,
    set_learning_rate,
    unpack_state,
)

# Beside the optimiser's own tensors, only with fp16: the loss scale, and steps since it changed.
_SCALER = {"grad_scaler/scale": "scale", "grad_scaler/growth": "_growth_tracker"}


class TrainingStep:
    """Everything that changes the weights of one model during one round."""

    def __init__(
        self,
        model: nn.Module,
        cfg: TrainingConfig,
        device: torch.device,
        *,
        loss: nn.Module,
        optimizer_state: Mapping[str, Tensor] | None,
        correction: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._model = model
        self._forward = torch.compile(model) if cfg.compile else model
        self._cfg = cfg
        self._device = device
        self._trainable = [p for p in model.parameters() if p.requires_grad]
        self._loss = loss.to(device)
        self._anchors = _anchors(self._trainable) if cfg.proximal_mu else []
        named = dict(model.named_parameters())
        self._added = [(named[n], t.to(device)) for n, t in (correction or {}).items()]
        self._optimizer = build_optimizer(model, cfg)
        state = dict(optimizer_state or {})
        known = {own: state.pop(name).item() for name, own in _SCALER.items() if name in state}
        if cfg.optimizer_state == "keep":
            unpack_state(self._optimizer, model, state, kind=cfg.optimizer)
        self._scaler = torch.amp.GradScaler(device.type, enabled=cfg.precision == "fp16")
        if self._scaler.is_enabled():
            self._scaler.load_state_dict({**self._scaler.state_dict(), **known})

    def __call__(self, images: Tensor, targets: Tensor, learning_rate: float) -> Tensor:
        """Take one step and return the batch's mean loss, without waiting for the device."""
        set_learning_rate(self._optimizer, learning_rate)
        self._optimizer.zero_grad(set_to_none=True)
        with autocast(self._device, self._cfg.precision):
            logits = self._forward(images)
        loss: Tensor = self._loss(logits, targets)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self._anchors or self._added or self._cfg.gradient_clip:
            self._change_gradients()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.detach()

    def optimizer_state(self) -> dict[str, Tensor] | None:
        """Return what the next round goes on with, as named tensors on the CPU.

        With `optimizer_state=reset` that is the loss scale of fp16 alone, which each round would
        have to find anew, skipping steps; None without fp16.
        """
        keep = self._cfg.optimizer_state == "keep"
        state = pack_state(self._optimizer, self._model) if keep else {}
        if self._scaler.is_enabled():
            found = self._scaler.state_dict()
            state |= {name: torch.tensor(found[own]) for name, own in _SCALER.items()}
        return state if keep or state else None

    def _change_gradients(self) -> None:
        self._scaler.unscale_(self._optimizer)
        with torch.no_grad():
            for parameter, anchor in self._anchors:
                if parameter.grad is not None:
                    parameter.grad.add_(parameter - anchor, alpha=self._cfg.proximal_mu)
            for parameter, added in self._added:
                if parameter.grad is not None:
                    parameter.grad.add_(added)
        if self._cfg.gradient_clip:
            nn.utils.clip_grad_norm_(self._trainable, self._cfg.gradient_clip)


def _anchors(parameters: Sequence[nn.Parameter]) -> list[tuple[nn.Parameter, Tensor]]:
    """Pair each trainable parameter with its global value, which is the one it has at the start.

    The gradient of FedProx's mu/2 ||w - w_global||^2 is mu (w - w_global); adding it to the
    gradients is the term itself.
    """
    return [(parameter, parameter.detach().clone()) for parameter in parameters]
