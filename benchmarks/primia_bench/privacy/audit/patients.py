"""Who is in the data of a one-run audit: ordinary patients, and canaries that may be.

All of it is known to the attacker, except for which canaries are in.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from primia_flwr.models.layers.weight_standardisation import WSConv2d

SIDE, CLASSES = 16, 10
_LIKENESS = 0.1  # how much the images of one canary differ


@dataclass(frozen=True)
class Patients:
    """Images (N, 1, 16, 16), their labels (N,), and the patient of each."""

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]

    def with_(self, other: "Patients") -> "Patients":
        """Return both together."""
        return Patients(
            torch.cat([self.images, other.images]),
            torch.cat([self.labels, other.labels]),
            self.names + other.names,
        )

    def only(self, names: set[str]) -> "Patients":
        """Return these patients with all their images."""
        rows = [row for row, name in enumerate(self.names) if name in names]
        return Patients(
            self.images[rows], self.labels[rows], tuple(self.names[row] for row in rows)
        )


def ordinary(count: int, *, seed: int) -> Patients:
    """Make patients of one to three images: the pattern of a class, and noise."""
    generator = torch.Generator().manual_seed(seed)
    owners = [at for at in range(count) for _ in range(at % 3 + 1)]
    patterns = torch.randn(CLASSES, 1, SIDE, SIDE, generator=generator)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)[owners]
    noise = torch.randn(len(owners), 1, SIDE, SIDE, generator=generator)
    return Patients(patterns[labels] + 0.5 * noise, labels, tuple(f"patient {at}" for at in owners))


def canaries(count: int, *, images: int, seed: int) -> Patients:
    """Make patients of `images` images of noise, nearly alike, with a label by chance.

    The images of canary c are rows c * images to (c + 1) * images.
    """
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(count, 1, 1, SIDE, SIDE, generator=generator)
    own = torch.randn(count, images, 1, SIDE, SIDE, generator=generator)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    return Patients(
        (base + _LIKENESS * own).flatten(0, 1),
        labels.repeat_interleave(images),
        tuple(canary(at) for at in range(count) for _ in range(images)),
    )


def canary(at: int) -> str:
    """Return the name of a canary."""
    return f"canary {at}"


def network(*, seed: int) -> nn.Module:
    """Build a small network with every kind of layer that the engines clip.

    25,354 parameters and features of mean 0: the gradients of canaries are nearly orthogonal.
    """
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.Tanh(),
        WSConv2d(16, 32, 3, stride=2, padding=1, bias=False),
        nn.GroupNorm(8, 32),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(32 * (SIDE // 2) ** 2, CLASSES),
    )
