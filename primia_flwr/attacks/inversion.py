"""Gradient inversion: images whose gradient points where an observed one does.

From random images, signed Adam goes down 1 - cosine similarity of the gradients, plus total
variation, plus (where the batch statistics of batch norm are known) the distance to them. Pixels
stay within [0, 1]; of several random starts the one with the lowest objective is the result.

Source: Geiping, Bauermeister, Dröge, Moeller 2020, Inverting Gradients (arXiv 2003.14053),
sections 5 and 6; written from the paper. Ours: the smooth start and the distance by layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from primia_flwr.attacks.gradients import (
    BatchStatistics,
    GradientOf,
    cosine_distance,
    layer_distance,
    statistics_distance,
    total_variation,
)
from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.training.normalisation import Normalisation

STARTS = ("noise", "smooth")
Distance = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
DISTANCES: dict[str, Distance] = {"whole": cosine_distance, "layers": layer_distance}
DECAY_AT = (3 / 8, 5 / 8, 7 / 8)  # of the iterations; the step is a tenth from there on
_COARSE = 8  # pixels along each side of a smooth start
OnStep = Callable[[int, float], None]


@dataclass(frozen=True)
class InversionConfig:
    """How long and how the images are searched for.

    Attributes
    ----------
    iterations
        Steps of each start, 1 to 1,000,000.
    restarts
        Random starts, 1 to 1,000.
    step_size
        Of signed Adam at first, in standard deviations of a pixel, above 0.
    total_variation
        Weight of the total variation, at least 0.
    batch_statistics
        Weight of the distance to revealed batch statistics, at least 0.
    start
        `noise`: independent normal pixels, as in the paper; `smooth`: normal numbers on a grid of
        8 x 8, interpolated, which fits photographs better and needs fewer steps.
    distance
        `whole`: cosine distance over all parameters together, as in the paper; `layers`: the mean
        over the kernels and matrices, which falls faster.
    """

    iterations: int = 400
    restarts: int = 1
    step_size: float = 0.3
    total_variation: float = 0.5
    batch_statistics: float = 0.1
    start: str = "smooth"
    distance: str = "layers"

    def __post_init__(self) -> None:
        check_range("iterations", self.iterations, 1, 1_000_000, example=400)
        check_range("restarts", self.restarts, 1, 1000, example=2)
        check_range("step_size", self.step_size, 0, 10, example=0.1, open_low=True)
        check_range("total_variation", self.total_variation, 0, 1e6, example=0.1)
        check_range("batch_statistics", self.batch_statistics, 0, 1e6, example=0.1)
        check_choice("start", self.start, STARTS)
        check_choice("distance", self.distance, DISTANCES)


@dataclass(frozen=True)
class Observation:
    """What the attacker holds of one update.

    Attributes
    ----------
    gradient
        One tensor for each compared parameter, to scale.
    labels
        (B,) int64, recovered or known.
    revealed
        Mean and variance, (channels,) each, of every batch norm layer; empty: not known.
    """

    gradient: tuple[Tensor, ...]
    labels: Tensor
    revealed: Sequence[tuple[Tensor, Tensor]] = ()


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
    on_step: OnStep | None = None,
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
        search = _Search(gradient_of, observed, shape, normalisation, cfg, generator)
        for step in range(cfg.iterations):
            value = search.step()
            if on_step and (step % 10 == 9 or step + 1 == cfg.iterations):
                on_step(restart * cfg.iterations + step + 1, float(value))
        objective, distance = search.evaluate()
        objectives.append(objective)
        if best is None or objective < best.objective:
            best = Reconstruction(search.images(), objective, distance, objectives)
        search.close()
    assert best is not None
    return best


class _Search:
    """One start: the images, and the steps down."""

    def __init__(
        self,
        gradient_of: GradientOf,
        observed: Observation,
        shape: tuple[int, int, int],
        normalisation: Normalisation,
        cfg: InversionConfig,
        generator: torch.Generator,
    ) -> None:
        self._gradient_of, self._cfg = gradient_of, cfg
        device = gradient_of.parameters[0].device
        self._observed = tuple(t.to(device) for t in observed.gradient)
        self._labels = observed.labels.to(device)
        self._revealed = [(m.to(device), v.to(device)) for m, v in observed.revealed]
        self._watch: BatchStatistics | None = gradient_of.watch() if self._revealed else None
        ends = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, shape[0], 1, 1)
        self._low, self._high = normalisation.apply(ends).to(device)
        start = _start(len(self._labels), shape, cfg.start, generator).to(device)
        self._x = start.clamp(self._low, self._high).requires_grad_(True)
        self._adam = torch.optim.Adam([self._x], lr=cfg.step_size)
        at = [int(cfg.iterations * share) for share in DECAY_AT]
        self._decay = torch.optim.lr_scheduler.MultiStepLR(self._adam, at, gamma=0.1)

    def step(self) -> Tensor:
        """Take one step; return the objective before it."""
        objective, _ = self._objective()
        self._x.grad = torch.autograd.grad(objective, self._x)[0].sign()
        self._adam.step()
        self._decay.step()
        with torch.no_grad():
            self._x.clamp_(self._low, self._high)
        return objective.detach()

    def evaluate(self) -> tuple[float, float]:
        """Return the objective and the cosine distance now."""
        objective, distance = self._objective()
        return float(objective.detach()), float(distance.detach())

    def images(self) -> Tensor:
        """Return the images as pixels in [0, 1], on the CPU."""
        pixels: Tensor = (self._x.detach() - self._low) / (self._high - self._low)
        return pixels.clamp(0, 1).cpu()

    def close(self) -> None:
        """Leave the model as it was found."""
        if self._watch:
            self._watch.close()

    def _objective(self) -> tuple[Tensor, Tensor]:
        if self._watch:
            self._watch.clear()
        found = self._gradient_of(self._x, self._labels)
        distance = DISTANCES[self._cfg.distance](found, self._observed)
        objective = distance + self._cfg.total_variation * total_variation(self._x)
        if self._watch:
            apart = statistics_distance(self._watch, self._revealed)
            objective = objective + self._cfg.batch_statistics * apart
        return objective, distance


def _start(
    batch_size: int, shape: tuple[int, int, int], kind: str, generator: torch.Generator
) -> Tensor:
    channels, height, width = shape
    if kind == "noise":
        return torch.randn(batch_size, channels, height, width, generator=generator)
    coarse = torch.randn(batch_size, channels, _COARSE, _COARSE, generator=generator)
    return functional.interpolate(coarse, size=(height, width), mode="bicubic")
