"""Gradient inversion: images whose gradient points where an observed one does.

From a random start a descent goes down a distance of the gradients, plus total variation, plus
(where the batch statistics of batch norm are known) the distance to them. Of several starts the
one with the lowest objective is the result.

Source: Geiping, Bauermeister, Dröge, Moeller 2020, Inverting Gradients (arXiv 2003.14053),
sections 5 and 6; written from the paper. What we do otherwise: `descent`, `surrogate`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from primia_flwr.attacks.inversion.config import InversionConfig
from primia_flwr.attacks.inversion.descent import (
    Descent,
    Observation,
    PixelDescent,
    SpectralDescent,
)
from primia_flwr.attacks.inversion.gradients import GradientOf
from primia_flwr.training.normalisation import Normalisation

_DESCENTS: dict[str, type[Descent]] = {"spectral": SpectralDescent, "paper": PixelDescent}
_OnStep = Callable[[int, float], None]


@dataclass(frozen=True)
class Reconstruction:
    """The best of the starts.

    `images`: (B, C, H, W) float32 in [0, 1], on the CPU. `objective`, `distance`: the whole
    objective and the distance of the gradients within it, at the end. `objectives`: of every start.
    """

    images: Tensor
    objective: float
    distance: float
    objectives: list[float]


def invert(
    gradient_of: GradientOf,
    observed: Observation,
    shape: tuple[int, int, int],
    normalisation: Normalisation,
    cfg: InversionConfig,
    *,
    generator: torch.Generator,
    on_step: _OnStep | None = None,
) -> Reconstruction:
    """Search for the images of an observed gradient.

    Parameters
    ----------
    gradient_of : GradientOf
        The model, with the weights before the update; its device is used.
    observed : Observation
        The gradient, the labels, perhaps batch statistics.
    shape : tuple of int
        (C, H, W) of one image.
    normalisation : Normalisation
        Of the run: pixels in [0, 1] to what the model gets.
    cfg : InversionConfig
        Steps, starts, weights.
    generator : torch.Generator
        Source of the starts, on the CPU.
    on_step : callable, optional
        Told the steps done over all starts, and the objective of the running one.
    """
    best: Reconstruction | None = None
    objectives: list[float] = []
    for restart in range(cfg.restarts):
        descent = _DESCENTS[cfg.method](gradient_of, observed, shape, normalisation, cfg, generator)
        _go_down(descent, cfg.iterations, restart, on_step)
        objective, distance = descent.evaluate()
        objectives.append(objective)
        if best is None or objective < best.objective:
            best = Reconstruction(descent.images(), objective, distance, objectives)
        descent.close()
    assert best is not None
    return best


def _go_down(descent: Descent, iterations: int, restart: int, on_step: _OnStep | None) -> None:
    for step in range(iterations):
        value = descent.step()
        if on_step and (step % 10 == 9 or step + 1 == iterations):
            on_step(restart * iterations + step + 1, float(value))
