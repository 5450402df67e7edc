"""Train a generator against a discriminator whose every step is clipped by unit, and noisy.

Patients are read in one place: the sum of the clipped gradients of the drawn units' images, which
only `NoisyGradient` releases. What the discriminator thinks of generated images is a function of
earlier releases, so its part of the step is clipped alike and gets no noise. The generator learns
from the discriminator alone: post-processing. A step's price is that of DP-SGD, however many
generated images there are.

Source: Torkzadehmahani et al. 2019, DP-CGAN, https://arxiv.org/abs/2001.09700, which clips both
parts apart; Bie, Kamath, Zhang 2023, https://arxiv.org/abs/2302.02936 for several discriminator
steps a generator step.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from primia_flwr.data.dataset import LabelledImages
from primia_flwr.privacy.accounting.events import SampledGaussian
from primia_flwr.privacy.clipping.ghost import GhostEngine
from primia_flwr.privacy.mechanisms.dp_step import Mechanism, NoisyGradient
from primia_flwr.privacy.mechanisms.units import units_of
from primia_flwr.synthesis.config import GeneratorConfig
from primia_flwr.synthesis.networks import Generator, build_discriminator
from primia_flwr.training.device import compute_settings, cpu_copy, derive_seed

_AT_ONCE = 128  # units on the device
_BETAS = (0.5, 0.999)  # of Adam, as adversarial training has them
_LEVELS = 127.5  # half of the pixel values


def build_generator(cfg: GeneratorConfig, *, classes: int, size: int) -> Generator:
    """Return the generator of a configuration, with random weights."""
    return Generator(classes=classes, size=size, latent=cfg.latent, width=cfg.width)


def train_generator(
    images: LabelledImages,
    cfg: GeneratorConfig,
    event: SampledGaussian,
    *,
    unit: str,
    clip_norm: float,
    seed: int,
    device: torch.device,
    on_step: Callable[[int], None] = lambda done: None,
) -> dict[str, Tensor]:
    """Return the state of a trained generator, on the CPU; it may be released once it is paid for.

    Parameters
    ----------
    images : LabelledImages
        Of one site, (N, 1, S, S) uint8, S in `networks.SIZES`.
    cfg : GeneratorConfig
        Nets and steps.
    event : SampledGaussian
        Noise, sampling rate and number of the discriminator's steps: what the ledger is charged.
    unit : str
        `patient` or `image`: what is drawn, and clipped as one.
    clip_norm : float
        Largest norm of what one unit adds to a step's sum, above 0.
    seed : int
        Of first weights and of generated images; noise and draws of units never come from it.
    on_step : callable
        Called with the number of steps done, and nothing that depends on an image.
    """
    seed = derive_seed(seed, "synthesis")
    with compute_settings(device, seed=seed):
        game = _Game(images, cfg, event, unit=unit, clip_norm=clip_norm, device=device)
        for step in range(1, event.steps + 1):
            game.discriminate()
            if step % cfg.discriminator_steps == 0:
                game.generate()
            on_step(step)
        return {name: cpu_copy(value) for name, value in game.generator.state_dict().items()}


def draw_images(
    generator: Generator, counts: Sequence[int], *, seed: int
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (class, pixels (S, S) uint8), `counts[k]` of class k; the same for the same seed."""
    noise = torch.Generator().manual_seed(derive_seed(seed, "synthetic images"))
    for label, count in enumerate(counts):
        for start in range(0, count, _AT_ONCE):
            n = min(_AT_ONCE, count - start)
            latent = torch.randn(n, generator.latent, generator=noise)
            with torch.no_grad():
                found = generator(latent, torch.full((n,), label))
            for pixels in ((found[:, 0] + 1) * _LEVELS).round().to(torch.uint8).numpy():
                yield label, pixels


def _verdict_loss(verdicts: Tensor, targets: Tensor) -> Tensor:
    """Return (N,) losses; a target is the label of a real image, or -1 - label of another."""
    real = targets >= 0
    labels = torch.where(real, targets, -1 - targets)
    own = verdicts.gather(1, labels[:, None]).squeeze(1)
    return functional.softplus(torch.where(real, -own, own))


class _Game:
    """Both nets, their optimisers, and the only two ways in which they move."""

    def __init__(
        self,
        images: LabelledImages,
        cfg: GeneratorConfig,
        event: SampledGaussian,
        *,
        unit: str,
        clip_norm: float,
        device: torch.device,
    ) -> None:
        self._images, self._rate, self._device = images, event.sampling_rate, device
        self._units = units_of(unit, images.patients, images.digests)
        self._classes, size = len(images.classes), int(images.images.shape[-1])
        self.generator = build_generator(cfg, classes=self._classes, size=size).to(device)
        self._discriminator = build_discriminator(
            classes=self._classes, size=size, width=cfg.discriminator_width
        ).to(device)
        self._engine = GhostEngine(self._discriminator, _verdict_loss, clip_norm=clip_norm)
        expected = event.sampling_rate * len(self._units)
        self._batch = max(1, round(expected))
        self._noisy = NoisyGradient(
            self._engine,
            mechanism=Mechanism(
                clip_norm=clip_norm,
                noise_multiplier=event.noise_multiplier,
                expected_batch=expected,
            ),
        )
        self._learns = torch.optim.AdamW(
            self._discriminator.parameters(),
            lr=cfg.discriminator_learning_rate,
            betas=_BETAS,
            weight_decay=cfg.weight_decay,
        )
        self._deceives = torch.optim.Adam(
            self.generator.parameters(), lr=cfg.learning_rate, betas=_BETAS
        )

    def discriminate(self) -> None:
        """Take one noisy step of the discriminator."""
        self._noisy.set_gradients(self._drawn())
        with torch.no_grad():
            fake, labels = self._fake()
        for at in range(0, len(fake), _AT_ONCE):
            part = slice(at, at + _AT_ONCE)
            sums = self._engine.clipped_sum(fake[part], -1 - labels[part])
            for parameter, total in zip(self._engine.parameters, sums, strict=True):
                assert parameter.grad is not None
                parameter.grad.add_(total, alpha=1 / len(fake))
        self._learns.step()

    def generate(self) -> None:
        """Take one step of the generator, which no image reaches."""
        fake, labels = self._fake()
        loss = _verdict_loss(self._discriminator(fake), labels).mean()
        parameters = list(self.generator.parameters())
        for parameter, found in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = found
        self._deceives.step()

    def _drawn(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images of the drawn units, one a unit, with their labels."""
        drawn = self._units.sample(sampling_rate=self._rate)
        rows = torch.from_numpy(self._units.views(drawn, views=1))
        for at in range(0, len(rows), _AT_ONCE):
            chosen = rows[at : at + _AT_ONCE]
            pixels = self._images.images[chosen].to(self._device)
            yield pixels.float() / _LEVELS - 1, self._images.labels[chosen].to(self._device)

    def _fake(self) -> tuple[Tensor, Tensor]:
        """Return as many generated images as a step expects real ones, of all classes alike."""
        labels = torch.randint(self._classes, (self._batch,), device=self._device)
        noise = torch.randn(self._batch, self.generator.latent, device=self._device)
        return self.generator(noise, labels), labels
