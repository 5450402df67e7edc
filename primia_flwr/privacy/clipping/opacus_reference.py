"""Opacus as a clipping engine: the reference that the others are compared with.

The only importer of opacus.

Source: Yousefpour et al. 2021, Opacus: User-Friendly Differential Privacy Library in PyTorch.
"""

from typing import Any

import torch
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
    GradSampleModuleFastGradientClipping,
)
from torch import Tensor, nn

from primia_flwr.privacy.clipping.engine import Engine, Weigh


class OpacusEngine(Engine):
    """Opacus's hooks: the gradient of every image, all at once in memory.

    With channels_last its convolutions give other gradients than autograd (opacus 1.6.0), so the
    parameters are laid out in the ordinary way first, and stay so.
    """

    def _measure(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Weigh]:
        images = _contiguous(self._model, images)
        wrapped = GradSampleModule(self._model, loss_reduction="sum")
        training = self._model.training
        try:
            self._model.train()  # its hooks are off in evaluation mode
            with torch.enable_grad():
                self._losses(images, targets).sum().backward()  # type: ignore[no-untyped-call]
            units = len(images) // self.views
            gradients = [self._of_units(parameter, units) for parameter in self.parameters]
        finally:
            self._model.train(training)
            _unwrap(wrapped, self.parameters)
        norms = [g.double().square().flatten(1).sum(dim=1) for g in gradients]
        return torch.stack(norms).sum(dim=0), lambda factors: [
            torch.tensordot(factors.to(gradient.dtype), gradient, dims=1) for gradient in gradients
        ]

    @staticmethod
    def _of_units(parameter: Any, units: int) -> Tensor:
        """Add up the rows of each unit, its views or their frames: (units, ...)."""
        by_row: Tensor = parameter.grad_sample
        return by_row.view(units, -1, *by_row.shape[1:]).sum(dim=1)


class OpacusGhostEngine(Engine):
    """Opacus's ghost clipping, two backward passes; for the benchmark. One view a unit."""

    def _measure(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Weigh]:
        images = _contiguous(self._model, images)
        wrapped = GradSampleModuleFastGradientClipping(
            self._model, loss_reduction="sum", max_grad_norm=self.clip_norm
        )
        with torch.enable_grad():
            losses = self._losses(images, targets)
            losses.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
        squared = wrapped.get_norm_sample().double().square()
        if not bool(squared.isfinite().all()):
            _unwrap(wrapped, self.parameters)  # to be measured again without those that are not

        def weigh(factors: Tensor) -> list[Tensor]:
            wrapped.disable_hooks()
            for parameter in self.parameters:
                parameter.grad = None
            (losses * factors.to(losses.dtype)).sum().backward()  # type: ignore[no-untyped-call]
            sums = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
            _unwrap(wrapped, self.parameters)
            return sums

        return squared, weigh


def _contiguous(model: nn.Module, images: Tensor) -> Tensor:
    """Copy: a kernel of one channel counts as both layouts, and is no sign to `contiguous()`."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return images.clone(memory_format=torch.contiguous_format)


def _unwrap(wrapped: Any, parameters: list[Any]) -> None:
    """Leave model and parameters as they were."""
    wrapped.to_standard_module()
    for parameter in parameters:
        parameter.grad = None
