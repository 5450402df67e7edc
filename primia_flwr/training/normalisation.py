"""Pixels in [0, 1] to mean 0 and standard deviation 1, with numbers of the whole federation."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from primia_flwr.errors import DataError


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation of pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        fits = len(self.mean) == len(self.std) > 0
        if not fits or not all(0 < std < float("inf") for std in self.std):
            raise DataError(
                f"pixel mean {self.mean} and standard deviation {self.std}; expected one of each "
                "a channel and deviations above 0; are all images of one colour?"
            )

    def apply(self, images: Tensor) -> Tensor:
        """Normalise (N, C, H, W): uint8, or floating point in [0, 1]; returns float32."""
        scale, shift = _constants(self, images.device, images.is_floating_point())
        return images.to(torch.float32, copy=True).mul_(scale).add_(shift)


@lru_cache(maxsize=16)
def _constants(
    normalisation: Normalisation, device: torch.device, floating_point: bool
) -> tuple[Tensor, Tensor]:
    """Return scale and shift, each (C, 1, 1), once per device: a copy there would wait for it."""
    highest = 1.0 if floating_point else 255.0
    mean = torch.tensor(normalisation.mean, dtype=torch.float64).view(-1, 1, 1)
    std = torch.tensor(normalisation.std, dtype=torch.float64).view(-1, 1, 1)
    return (1 / (highest * std)).float().to(device), (-mean / std).float().to(device)
