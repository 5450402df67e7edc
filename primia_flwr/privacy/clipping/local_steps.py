"""The clipped sum of units that take several small steps each before they are clipped.

From the model as it is, a unit takes `steps` plain gradient steps with `rate` on its own images;
the mean of the gradients on that way is its contribution, which is clipped as any other. One step
is the gradient itself. A unit still adds one clipped vector, so noise and price stay as they are.
Source: Wu et al. 2019, P3SGD: patient privacy preserving SGD, https://arxiv.org/abs/1905.12883
"""

import torch
from torch import Tensor, nn

from primia_flwr.config.checks import check_range
from primia_flwr.privacy.clipping.engine import PerImageLoss, Weigh
from primia_flwr.privacy.clipping.loop import LoopEngine


class LocalSteps(LoopEngine):
    """One unit after another, each with steps of its own.

    Parameters
    ----------
    model, loss, clip_norm, views
        As `Engine`.
    steps : int
        Of a unit before it is clipped, 1 to 100.
    rate : float
        Of these steps, above 0.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: PerImageLoss,
        *,
        clip_norm: float,
        views: int = 1,
        steps: int,
        rate: float,
    ) -> None:
        super().__init__(model, loss, clip_norm=clip_norm, views=views)
        check_range("privacy.patient_steps", steps, 1, 100, example=4)
        check_range("privacy.patient_rate", rate, 0, 100, example=0.05, open_low=True)
        self._steps, self._rate = steps, rate

    def _measure(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Weigh]:
        """Measure one unit; the model is afterwards what it was."""
        weights: list[Tensor] = list(self.parameters)
        before = [p.detach().clone() for p in weights]
        total = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        try:
            for _ in range(self._steps):
                gradients = self._gradients(images, targets)
                torch._foreach_add_(total, gradients)
                with torch.no_grad():
                    torch._foreach_add_(weights, gradients, alpha=-self._rate)
        finally:
            with torch.no_grad():
                torch._foreach_copy_(weights, before)
        torch._foreach_div_(total, self._steps)
        return self._weighed(total)
