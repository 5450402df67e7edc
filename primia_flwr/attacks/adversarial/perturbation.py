"""The least favourable image within a distance of the one that was taken.

Distances are the largest change of a pixel, of pixels in [0, 1]; changed pixels stay in [0, 1].

Sources: FGSM, Goodfellow et al. 2015, Explaining and Harnessing Adversarial Examples; PGD, Madry et
al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from primia_flwr.data.dataset import LabelledImages
from primia_flwr.training.normalisation import Normalisation

METHODS = ("fgsm", "pgd")
_REACH = 2.5  # the steps of PGD together could go that many times the distance


@dataclass(frozen=True)
class Attacked:
    """A model under attack; `steps` and `restarts` are PGD's, `generator` draws where it begins."""

    model: nn.Module
    normalisation: Normalisation
    device: torch.device
    steps: int
    restarts: int
    generator: torch.Generator

    def wrong(self, images: LabelledImages, method: str, distance: float, batch: int) -> Tensor:
        """Return which images the model takes for another class than theirs, (N,) bool.

        `images`: with their true classes. `method`: one of `METHODS`. `distance`: 0 or more; with 0
        the images are as they are. `batch`: images at a time.
        """
        self.model.to(self.device).eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        parts = [
            self._errs(self._changed(pixels, labels, method, distance), labels)
            for pixels, labels in self._batches(images, batch)
        ]
        return torch.cat(parts).cpu()

    def _batches(self, images: LabelledImages, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for at in range(0, len(images), batch):
            part = slice(at, at + batch)
            pixels = images.images[part].to(self.device).float() / 255
            yield pixels, images.labels[part].to(self.device)

    def _changed(self, pixels: Tensor, labels: Tensor, method: str, distance: float) -> Tensor:
        if distance == 0:
            return pixels
        fast = self._step(pixels, pixels, labels, distance, distance)
        if method == "fgsm":
            return fast
        return self._descended(pixels, labels, distance)

    def _descended(self, pixels: Tensor, labels: Tensor, distance: float) -> Tensor:
        """Return, of several random starts, for each image the one of highest loss."""
        worst, highest = pixels, torch.full(labels.shape, -torch.inf, device=self.device)
        for _ in range(self.restarts):
            noise = torch.rand(pixels.shape, generator=self.generator).to(self.device)
            now = (pixels + distance * (2 * noise - 1)).clamp(0, 1)
            for _ in range(self.steps):
                now = self._step(now, pixels, labels, _REACH * distance / self.steps, distance)
            loss = self._losses(now, labels)
            # an image that is taken for another class is worse than any that is not
            loss = loss + torch.where(self._errs(now, labels), 1e6, 0.0)
            better = loss > highest
            highest = torch.where(better, loss, highest)
            worst = torch.where(better.view(-1, 1, 1, 1), now, worst)
        return worst

    def _step(
        self, now: Tensor, pixels: Tensor, labels: Tensor, size: float, distance: float
    ) -> Tensor:
        """Go up the loss by the sign of its slope, within the distance of `pixels`."""
        point = now.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self._losses(point, labels).sum(), point)
        moved = now + size * slope.sign()
        return torch.min(torch.max(moved, pixels - distance), pixels + distance).clamp(0, 1)

    def _losses(self, pixels: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self._logits(pixels), labels, reduction="none")

    def _errs(self, pixels: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            return self._logits(pixels).argmax(dim=1) != labels

    def _logits(self, pixels: Tensor) -> Tensor:
        mean = torch.tensor(self.normalisation.mean, device=self.device).view(-1, 1, 1)
        std = torch.tensor(self.normalisation.std, device=self.device).view(-1, 1, 1)
        logits: Tensor = self.model((pixels - mean) / std)
        return logits
