"""Two small nets: a generator of labelled images, and a discriminator that can be clipped.

Greyscale images of 16, 32 or 64 pixels, values in [-1, 1]. No batch norm: it would let one patient
into the others' gradients. The discriminator has one output a class; that of an image's label is
its verdict. Source: Torkzadehmahani et al. 2019, DP-CGAN, https://arxiv.org/abs/2001.09700;
Mescheder et al. 2018, https://arxiv.org/abs/1801.04406 for one output a class.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

SIZES = (16, 32, 64)
_SMALLEST = 4  # pixels of the generator's first feature map and of the discriminator's last
_GROUP = 8  # channels of a group of the norm


class Generator(nn.Module):
    """Noise (N, latent) and labels (N,) int64 to images (N, 1, size, size) in [-1, 1].

    Parameters
    ----------
    classes : int
        2 or more.
    size : int
        Of an image in pixels, one of `SIZES`.
    latent : int
        Numbers of noise an image.
    width : int
        Channels of each feature map, a multiple of 8.
    """

    def __init__(self, *, classes: int, size: int, latent: int, width: int) -> None:
        super().__init__()
        self.classes, self.latent = classes, latent
        self._width = width
        self.first = nn.Linear(latent + classes, width * _SMALLEST**2)
        doublings = (size // _SMALLEST).bit_length() - 1
        self.blocks = nn.ModuleList(_block(width) for _ in range(doublings))
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Return the images."""
        named = functional.one_hot(labels, self.classes).to(noise.dtype)
        x = self.first(torch.cat([noise, named], dim=1)).view(-1, self._width, _SMALLEST, _SMALLEST)
        for block in self.blocks:
            x = block(functional.interpolate(x, scale_factor=2.0))
        return torch.tanh(self.last(x))


def _block(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(width // _GROUP, width), nn.ReLU()
    )


def build_discriminator(*, classes: int, size: int, width: int) -> nn.Module:
    """Return the net of images (N, 1, size, size) in [-1, 1] to verdicts (N, classes).

    `width`: channels of its first feature map, a multiple of 8; twice as many from then on.
    """
    layers: list[nn.Module] = [nn.Conv2d(1, width, 5, stride=2, padding=2), nn.LeakyReLU(0.2)]
    before, now = width, size // 2
    while now > _SMALLEST:
        layers += [
            nn.Conv2d(before, 2 * width, 5, stride=2, padding=2),
            nn.GroupNorm(2 * width // _GROUP, 2 * width),
            nn.LeakyReLU(0.2),
        ]
        before, now = 2 * width, now // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * _SMALLEST**2, classes))
