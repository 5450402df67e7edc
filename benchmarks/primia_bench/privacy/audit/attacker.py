"""The attacker of a one-run audit: sees every noisy gradient and knows all but the coins.

In each step the noisy sum is, with G the canaries' clipped gradients at the model of the step,

    y = G^T (coin * drawn) + what ordinary patients add + noise.

The attacker takes off what it expects, and estimates coin * drawn of every canary by ridge
regression: the best linear estimate if coins and draws were Gaussian. A canary's score is the sum
of its estimates over the steps. Gradients are made by `torch.func`, not by the engine under test.

Source: Steinke, Nasr, Jagielski 2023, section 6 (white box); Nasr et al. 2023, Tight Auditing of
Differentially Private Machine Learning, for gradients as what is seen.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from primia_bench.privacy.audit.patients import Patients

_CHUNK = 128
_LEAST_RIDGE = 1e-6


class Attacker:
    """Scores canaries, step by step.

    Parameters
    ----------
    model : nn.Module
        As it is trained: the attacker reads its parameters before each step.
    known, canaries : Patients
        Each canary with `views` images; of the others the first ones are taken.
    clip_norm : float
        What each unit is clipped to; each image, with `by_image`.
    noise_multiplier : float
        What the noise really is.
    rate : float
        With which units are really drawn.
    """

    def __init__(
        self,
        model: nn.Module,
        known: Patients,
        canaries: Patients,
        *,
        views: int,
        clip_norm: float,
        noise_multiplier: float,
        rate: float,
        by_image: bool = False,
    ) -> None:
        self._model, self._clip_norm, self._by_image = model, clip_norm, by_image
        self._rate, self._noise = rate, noise_multiplier
        self._canaries = _by_unit(canaries, views)
        self._known = _by_unit(known, views)
        self.scores: NDArray[np.float64] = np.zeros(len(self._canaries[1]))
        self._gradients = self._expected = torch.empty(0)

    def look(self) -> None:
        """Read the model, before a step."""
        self._gradients = self._clipped(*self._canaries)
        ordinary = self._clipped(*self._known).sum(dim=0)
        self._expected = self._rate * (ordinary + self._gradients.sum(dim=0) / 2)

    def see(self, noisy_sum: Tensor) -> None:
        """Take a step's noisy sum, (parameters,), in."""
        scale = self._clip_norm**-2
        gram = (self._gradients @ self._gradients.t()).double() * scale
        seen = (self._gradients @ (noisy_sum - self._expected)).double() * scale
        variance = self._rate / 2 - self._rate**2 / 4  # of coin * drawn
        gram.diagonal().add_(max(self._noise**2 / variance, _LEAST_RIDGE))
        self.scores += torch.linalg.solve(gram, seen).numpy()

    def guess(self, guesses: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the half of `guesses` canaries most likely in, and the half most likely out."""
        order = np.argsort(self.scores)
        half = guesses // 2
        return order[len(order) - half :], order[: guesses - half]

    def _clipped(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return (units, parameters): each unit's contribution to a sum it is drawn for."""
        starts = range(0, len(images), _CHUNK)
        parts = [(images[at : at + _CHUNK], labels[at : at + _CHUNK]) for at in starts]
        if self._by_image:
            return torch.cat([self._clipped_by_image(*part) for part in parts])
        return torch.cat([self._clip(_gradients(self._model, *part)) for part in parts])

    def _clipped_by_image(self, images: Tensor, labels: Tensor) -> Tensor:
        views = images.shape[1]
        alone = images.flatten(0, 1).unsqueeze(1)
        found = self._clip(_gradients(self._model, alone, labels.repeat_interleave(views)))
        return found.view(len(images), views, -1).sum(dim=1)

    def _clip(self, gradients: Tensor) -> Tensor:
        norms = gradients.norm(dim=1, keepdim=True)
        return gradients.mul_((self._clip_norm / norms).clamp(max=1))


def _by_unit(patients: Patients, views: int) -> tuple[Tensor, Tensor]:
    """Return images (units, views, C, H, W), repeated where there are too few, and labels."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(patients.names):
        rows.setdefault(name, []).append(row)
    shown = torch.tensor([[own[k % len(own)] for k in range(views)] for own in rows.values()])
    return patients.images[shown], patients.labels[shown[:, 0]]


def _gradients(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return (units, parameters): gradients of the mean loss over each unit's views."""
    parameters = dict(model.named_parameters())

    def loss(values: dict[str, Tensor], views: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, values, (views,))
        return functional.cross_entropy(logits, label.expand(len(views)))

    each: Callable[..., dict[str, Tensor]] = vmap(grad(loss), in_dims=(None, 0, 0))
    found = each({k: v.detach() for k, v in parameters.items()}, images, labels)
    return torch.cat([found[name].flatten(1) for name in parameters], dim=1)
