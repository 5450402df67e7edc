"""The clipped sum by a plain loop: one unit at a time, forward and backward.

Slow and plain: little memory, nothing to trust but autograd.
"""

import torch
from torch import Tensor

from primia_flwr.privacy.clipping.engine import Engine, Weigh


class LoopEngine(Engine):
    """One unit after another."""

    def measured_sum(self, images: Tensor, targets: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the sum of the units' clipped gradients and their norms; see `Engine`."""
        total, norms = self._nothing(), list[Tensor]()
        for first in range(0, max(len(images), 1), self.views):
            unit = slice(first, first + self.views) if len(images) > self.views else slice(None)
            one, norm = super().measured_sum(images[unit], targets[unit])
            torch._foreach_add_(total, one)
            norms.append(norm)
        return total, torch.cat(norms)

    def _measure(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Weigh]:
        """Measure one unit."""
        return self._weighed(self._gradients(images, targets))

    def _gradients(self, images: Tensor, targets: Tensor) -> list[Tensor]:
        """Return one unit's gradient, the mean over its views."""
        with torch.enable_grad():
            loss = self._losses(images, targets).sum()
            found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        return [
            torch.zeros_like(p, requires_grad=False) if gradient is None else gradient
            for p, gradient in zip(self.parameters, found, strict=True)
        ]

    @staticmethod
    def _weighed(gradients: list[Tensor]) -> tuple[Tensor, Weigh]:
        """Return the squared norm of one unit's contribution, and what scales it."""
        norms = torch.stack(torch._foreach_norm(gradients)).double()

        def weigh(factors: Tensor) -> list[Tensor]:
            torch._foreach_mul_(gradients, float(factors))
            return gradients

        return norms.square().sum().view(1), weigh
