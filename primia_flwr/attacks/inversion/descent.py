"""Two ways down to the images of a gradient: the paper's, on pixels, and ours, on frequencies.

`PixelDescent`: random pixels, signed Adam, one cosine distance over all parameters, constant total
variation; Geiping, Bauermeister, Dröge, Moeller 2020, Inverting Gradients (arXiv 2003.14053),
sections 5 and 6, written from the paper.

`SpectralDescent` is ours. What is changed are Fourier coefficients, scaled as photographs' are, so
that coarse structure comes first (Olah, Mordvintsev & Schubert 2017, Feature Visualization). Each
kernel has a distance of its own; the last layers' count first, as they see the whole image and
their distances fall smoothly, and earlier ones join. The weight of the total variation falls.
A network with norm layers hardly sees the contrast; where it does, through their epsilon, pale
images have the smoother objective. So the search starts pale, and later takes the contrast that
the published normalisation says images have on average.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from primia_flwr.attacks.inversion.config import InversionConfig
from primia_flwr.attacks.inversion.gradients import (
    BatchStatistics,
    GradientOf,
    cosine_distance,
    layer_distances,
    statistics_distance,
    total_variation,
)
from primia_flwr.training.normalisation import Normalisation

_DECAY_AT = (3 / 8, 5 / 8, 7 / 8)  # of the iterations; the paper's step is a tenth from there on
_FALLOFF = 1.3  # a coefficient's scale is its frequency to the power of minus this
_START = 0.01  # standard deviation of the coefficients at the start: an almost even grey
_ALL_LAYERS_AT = 0.4  # of the iterations: from there on all layers count alike
_FULL_CONTRAST_AT = 0.67  # of the iterations: then pale images get an average contrast
_SOFTNESS = 0.07  # of the edge between layers that count and those that do not yet, of the depth
LAST_VARIATION = 0.03  # share of the total variation's weight that is left at the end


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


class Descent:
    """One start: unknowns, the images made of them, and the steps down; arguments as of `invert`.

    Subclasses set `unknown`, `optimiser` and `schedule` in `begin`, and say how images are made of
    the unknown, what the distance is and how the total variation is weighted.
    """

    unknown: Tensor
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    def __init__(
        self,
        gradient_of: GradientOf,
        observed: Observation,
        shape: tuple[int, int, int],
        normalisation: Normalisation,
        cfg: InversionConfig,
        generator: torch.Generator,
    ) -> None:
        self.gradient_of, self.cfg = gradient_of, cfg
        self.device = gradient_of.parameters[0].device
        self.observed = tuple(t.to(self.device) for t in observed.gradient)
        self.labels = observed.labels.to(self.device)
        self.revealed = [(m.to(self.device), v.to(self.device)) for m, v in observed.revealed]
        self._watch: BatchStatistics | None = gradient_of.watch() if self.revealed else None
        ends = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, shape[0], 1, 1)
        self.low, self.high = normalisation.apply(ends).to(self.device)
        self.taken = 0
        self.begin((len(observed.labels), *shape), generator)

    def begin(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> None:
        """Draw the unknown of images (B, C, H, W), and set what changes it."""
        raise NotImplementedError

    def made(self) -> Tensor:
        """Return the images, normalised, (B, C, H, W)."""
        raise NotImplementedError

    def distance(self, found: Sequence[Tensor]) -> Tensor:
        """Return the distance of a candidate's gradient from the observed one."""
        raise NotImplementedError

    def direction(self, gradient: Tensor) -> Tensor:
        """Return what the optimiser is given for a gradient."""
        return gradient

    def smoothness(self) -> float:
        """Return the weight of the total variation now."""
        return self.cfg.total_variation

    def step(self) -> Tensor:
        """Take one step; return the objective before it."""
        objective, _ = self._objective()
        self.unknown.grad = self.direction(torch.autograd.grad(objective, self.unknown)[0])
        self.optimiser.step()
        self.schedule.step()
        self.taken += 1
        return objective.detach()

    def evaluate(self) -> tuple[float, float]:
        """Return the objective and the distance of the gradients now."""
        objective, distance = self._objective()
        return float(objective.detach()), float(distance.detach())

    def images(self) -> Tensor:
        """Return the images as pixels in [0, 1], on the CPU."""
        pixels: Tensor = (self.made().detach() - self.low) / (self.high - self.low)
        return pixels.clamp(0, 1).cpu()

    def close(self) -> None:
        """Leave the model as it was found."""
        if self._watch:
            self._watch.close()

    def _objective(self) -> tuple[Tensor, Tensor]:
        if self._watch:
            self._watch.clear()
        images = self.made()
        distance = self.distance(self.gradient_of(images, self.labels))
        objective = distance + self.smoothness() * total_variation(images)
        if self._watch:
            apart = statistics_distance(self._watch, self.revealed)
            objective = objective + self.cfg.batch_statistics * apart
        return objective, distance


class PixelDescent(Descent):
    """As in the paper."""

    def begin(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> None:
        """Draw independent normal pixels."""
        start = torch.randn(shape, generator=generator).to(self.device)
        self.unknown = start.clamp(self.low, self.high).requires_grad_(True)
        self.optimiser = torch.optim.Adam([self.unknown], lr=self.cfg.step_size)
        at = [int(self.cfg.iterations * share) for share in _DECAY_AT]
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(self.optimiser, at, gamma=0.1)

    def made(self) -> Tensor:
        """Return the pixels, cut off at black and white."""
        with torch.no_grad():
            self.unknown.clamp_(self.low, self.high)
        return self.unknown

    def distance(self, found: Sequence[Tensor]) -> Tensor:
        """Return the cosine distance over all parameters together."""
        return cosine_distance(found, self.observed)

    def direction(self, gradient: Tensor) -> Tensor:
        """Return the sign."""
        return gradient.sign()


class SpectralDescent(Descent):
    """On Fourier coefficients, the last layers first."""

    def begin(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> None:
        """Draw small coefficients: an almost even grey."""
        *images, self._height, self._width = shape
        self._scale = frequency_scale(self._height, self._width).to(self.device)
        size = (*images, *self._scale.shape, 2)
        start = _START * torch.randn(size, generator=generator)
        self.unknown = start.to(self.device).requires_grad_(True)
        self.optimiser = torch.optim.Adam([self.unknown], lr=self.cfg.step_size)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimiser, self.cfg.iterations
        )

    def made(self) -> Tensor:
        """Return the images of the coefficients, between black and white by a logistic curve."""
        coefficients = torch.view_as_complex(self.unknown) * self._scale
        field = torch.fft.irfft2(coefficients, s=(self._height, self._width), norm="ortho")
        images: Tensor = self.low + (self.high - self.low) * torch.sigmoid(field)
        return images

    def distance(self, found: Sequence[Tensor]) -> Tensor:
        """Return the weighted mean of the layers' cosine distances."""
        distances = layer_distances(found, self.observed)
        weights = depth_weights(len(distances), self.taken / self.cfg.iterations)
        return (weights.to(self.device) * distances).sum()

    def smoothness(self) -> float:
        """Return the weight, which falls geometrically."""
        share = min(1.0, self.taken / self.cfg.iterations)
        return float(self.cfg.total_variation * LAST_VARIATION**share)

    def step(self) -> Tensor:
        """Take one step, from pale to full contrast when it is time; return the objective."""
        if self.taken == int(_FULL_CONTRAST_AT * self.cfg.iterations) and not self.revealed:
            self._stretch()
        return super().step()

    def _stretch(self) -> None:
        """Give the images the contrast of an average image: a root mean square of 1."""
        images = self.made().detach()
        size = images.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)
        shares = (images / size - self.low) / (self.high - self.low)
        field = torch.logit(shares.clamp(0.02, 0.98))
        with torch.no_grad():
            coefficients = torch.fft.rfft2(field, norm="ortho") / self._scale
            self.unknown.copy_(torch.view_as_real(coefficients))


def frequency_scale(height: int, width: int) -> Tensor:
    """Return the scale of each coefficient of `torch.fft.rfft2`, (H, W // 2 + 1), mean square 1."""
    down = torch.fft.fftfreq(height)[:, None]
    across = torch.fft.rfftfreq(width)[None]
    frequency = (down.square() + across.square()).sqrt().clamp(min=1 / max(height, width))
    scale: Tensor = frequency**-_FALLOFF
    return scale / scale.square().mean().sqrt()


def depth_weights(layers: int, share: float) -> Tensor:
    """Return how much each layer counts, (layers,), first layer first, together 1.

    Parameters
    ----------
    layers : int
        At least 1.
    share : float
        Of the iterations done, in [0, 1]; at 0 the last layer counts, from `_ALL_LAYERS_AT` on all.
    """
    beyond = 1 + 4 * _SOFTNESS  # so that at the end the edge is past the first layer
    edge = 1 - beyond * min(1.0, share / _ALL_LAYERS_AT)
    weights = torch.sigmoid((torch.linspace(0, 1, layers) - edge) / _SOFTNESS)
    return weights / weights.sum()
