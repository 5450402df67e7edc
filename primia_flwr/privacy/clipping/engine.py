"""What every clipping engine does: one clipped sum of a micro-batch of units.

Each unit's gradient (the mean over its views) is scaled down to the norm `clip_norm` if it is
longer, over all trainable parameters together, and the results are added up. A unit whose gradient
is not finite contributes nothing, so that the sum is always finite: a NaN, or an error about one,
would tell without noise that it was there.

Source: Abadi et al. 2016, Deep Learning with Differential Privacy; De et al. 2022 for the views.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from primia_flwr.config.checks import check_range
from primia_flwr.errors import ConfigError
from primia_flwr.privacy.clipping.admission import check_independence, check_model

# Logits (N, classes) and targets of N images to N losses, each of its own image alone.
PerImageLoss = Callable[[Tensor, Tensor], Tensor]
Weigh = Callable[[Tensor], list[Tensor]]


class Engine(ABC):
    """Clips and sums the gradients of one model.

    Parameters
    ----------
    model : nn.Module
        Parameters that do not require gradients are left alone (head-only fine-tuning).
    loss : callable
        Logits (N, classes) and targets to (N,) losses; each of its own image alone.
    clip_norm : float
        Largest Euclidean norm of a unit's contribution, above 0.
    views : int
        Images of each unit in a micro-batch, neighbours in it.

    Raises
    ------
    ConfigError
        If the model has a layer that cannot be clipped, or a number is out of range.
    """

    def __init__(
        self, model: nn.Module, loss: PerImageLoss, *, clip_norm: float, views: int = 1
    ) -> None:
        check_range("clip_norm", clip_norm, 0, example=1.0, open_low=True)
        check_range("views", views, 1, example=4)
        check_model(model)
        self.clip_norm = clip_norm
        self.views = views
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._model = model
        self._loss = loss
        self._independent = False

    def clipped_sum(self, images: Tensor, targets: Tensor) -> list[Tensor]:
        """Return the sum of the units' clipped gradients, one finite tensor a trainable parameter.

        As `measured_sum`, without the norms.
        """
        return self.measured_sum(images, targets)[0]

    def measured_sum(self, images: Tensor, targets: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the sum of the units' clipped gradients, and the units' norms before clipping.

        Both are as secret as the images: noise comes later
        (`primia_flwr.privacy.mechanisms.dp_step`).

        Parameters
        ----------
        images : Tensor
            (units * views, C, H, W) float; perhaps empty.
        targets : Tensor
            (units * views, ...), as the loss takes them.

        Returns
        -------
        tuple of (list of Tensor, Tensor)
            One finite tensor a trainable parameter; (units,) float64, without those units that
            contribute nothing because they are not finite.

        Raises
        ------
        ConfigError
            If the batch is not whole units, the loss does not give one number an image, the model
            lets images meet, or half precision (autocast) is on.
        """
        self._check(images, targets)
        if len(images) == 0:
            return self._nothing(), torch.zeros(0, dtype=torch.float64, device=images.device)
        if not self._independent:
            check_independence(self._model, images)
            self._independent = True
        squared, weigh = self._measure(images, targets)
        finite = squared.isfinite()
        if not bool(finite.all()):
            keep = finite.repeat_interleave(self.views)
            return self.measured_sum(images[keep], targets[keep])
        # a norm that is 0 but for rounding may come out below it
        norms = squared.clamp(min=0).sqrt()
        total = weigh((self.clip_norm / norms).clamp(max=1.0))
        if bool(torch.stack([part.isfinite().all() for part in total]).all()):
            return total, norms
        return self._one_by_one(images, targets)

    def _check(self, images: Tensor, targets: Tensor) -> None:
        if len(images) % self.views or len(images) != len(targets):
            raise ConfigError(
                f"a micro-batch of {len(images)} images and {len(targets)} targets; expected the "
                f"same number, a multiple of views={self.views}"
            )
        if torch.is_autocast_enabled(images.device.type):
            raise ConfigError(
                "training.precision is bf16 or fp16 with privacy=dp_sgd; norms in half precision "
                "bound nothing; set training.precision=fp32"
            )

    def _one_by_one(self, images: Tensor, targets: Tensor) -> tuple[list[Tensor], Tensor]:
        """Leave out the units whose part of the sum is not finite although their norm is."""
        total, norms = self._nothing(), [torch.zeros(0, dtype=torch.float64, device=images.device)]
        if len(images) > self.views:
            for first in range(0, len(images), self.views):
                unit = slice(first, first + self.views)
                one, norm = self.measured_sum(images[unit], targets[unit])
                torch._foreach_add_(total, one)
                norms.append(norm)
        return total, torch.cat(norms)

    def _nothing(self) -> list[Tensor]:
        """Return zeros, one tensor a trainable parameter."""
        return [torch.zeros_like(p, requires_grad=False) for p in self.parameters]

    @abstractmethod
    def _measure(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Weigh]:
        """Return the units' squared norms, (units,) float64, and what sums by factors."""

    def _losses(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return (N,) losses whose sum has the units' gradients: of each unit the mean."""
        losses = self._loss(self._model(images), targets)
        if losses.shape != (len(images),):
            raise ConfigError(
                f"the loss gave {tuple(losses.shape)} for {len(images)} images; expected one "
                "number an image, e.g. cross entropy with reduction='none'"
            )
        return losses / self.views
