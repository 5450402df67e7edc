"""Wavelet scattering of second order and a linear layer: filters that no patient has taught.

An image x is seen through complex Morlet wavelets psi of J scales and L directions and a Gaussian
low-pass phi, all fixed by formula:

    S x = { x * phi,  |x * psi_1| * phi,  ||x * psi_1| * psi_2| * phi  with psi_2 coarser },

C (1 + J L + L^2 J (J - 1) / 2) maps of a side 2^J times smaller. A group norm without parameters
makes each image's maps comparable, and one linear layer reads them. Only that layer is trained:
few entries for the noise of differential privacy to spoil. What comes before it may be computed by
whoever has the image, so encrypted inference needs a single linear step.

Source: Bruna and Mallat 2013, Invariant Scattering Convolution Networks; Tramèr and Boneh 2021,
Differentially Private Learning Needs Better Features (or Much More Data), for its use here; Andreux
et al. 2020, Kymatio, for the filters' constants.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.architecture import Architecture
from primia_flwr.models.layers.front_end import WithFrontEnd

SCALES = 2  # J
DIRECTIONS = 8  # L
_WIDTH = 0.8  # deviation of the finest wavelet's envelope, in pixels
_FREQUENCY = 0.75 * math.pi  # of the finest wavelet, in radians a pixel
_SLANT = 4 / DIRECTIONS  # how much narrower the envelope is across the wave than along its crest
_REACH = 4.0  # deviations at which an envelope is cut off: 3e-4 of its middle


class Scattering(nn.Module):
    """Images (N, C, H, W) to maps (N, C * 81, H / 4, W / 4), sides rounded up.

    It has neither parameters nor buffers.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return the maps: by image channel, first the mean, then first and second order."""
        count, channels, height, width = images.shape
        plane = images.reshape(count * channels, 1, height, width)
        found, first = [_smooth(plane)], []
        for scale in range(SCALES):
            first.append(_modulus(plane, scale))
            found.append(_smooth(first[-1]))
        for scale, maps in enumerate(first):
            for coarser in range(scale + 1, SCALES):
                alone = maps.reshape(-1, 1, height, width)
                second = _modulus(alone, coarser).reshape(len(plane), -1, height, width)
                found.append(_smooth(second))
        together = torch.cat(found, dim=1)
        return together.reshape(count, channels * MAPS, *together.shape[2:])


MAPS = 1 + SCALES * DIRECTIONS + DIRECTIONS**2 * SCALES * (SCALES - 1) // 2
GRID = 8  # cells a side of what the linear layer reads
_GROUPS = 27  # of the norm over the maps of a channel: 3 maps each, of one scale or neighbours


class ScatteringNet(WithFrontEnd):
    """Scattering, group norm without parameters, means over an 8 x 8 grid, one linear layer.

    `front` is public and the same for all models with this many channels; `classifier` is what is
    trained, 5,184 weights a class and image channel.
    """

    def __init__(self, outputs: int, channels: int) -> None:
        super().__init__()
        self.front = nn.Sequential(
            Scattering(),
            nn.GroupNorm(_GROUPS * channels, MAPS * channels, affine=False),
            nn.AdaptiveAvgPool2d(GRID),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(MAPS * channels * GRID**2, outputs)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W), H and W at least 32, to logits (N, classes)."""
        return self.classifier(self.front(x))  # type: ignore[no-any-return]


def _smooth(maps: Tensor) -> Tensor:
    """Return x * phi of each map, (N, M, H, W), at every 2^J-th pixel."""
    kernel = _lowpass(maps.device)
    each = kernel.expand(maps.shape[1], 1, -1, -1)
    padded = _mirrored(maps, kernel.shape[-1] // 2)
    return F.conv2d(padded, each, stride=2**SCALES, groups=maps.shape[1])


def _modulus(plane: Tensor, scale: int) -> Tensor:
    """Return |x * psi| of (N, 1, H, W) for all directions of a scale: (N, L, H, W)."""
    kernels = _wavelets(scale, plane.device)
    seen = F.conv2d(_mirrored(plane, kernels.shape[-1] // 2), kernels)
    return torch.hypot(seen[:, :DIRECTIONS], seen[:, DIRECTIONS:])


def _mirrored(maps: Tensor, by: int) -> Tensor:
    """Pad on all sides by reflection, in steps, as one may not be wider than the map."""
    while by > 0:
        now = min(by, maps.shape[-1] - 1, maps.shape[-2] - 1)
        maps, by = F.pad(maps, (now,) * 4, mode="reflect"), by - now
    return maps


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # kept, and used again where gradients are wanted
def _wavelets(scale: int, device: torch.device) -> Tensor:
    """Return the Morlet wavelets of a scale, (2 L, 1, K, K): real parts, then imaginary ones.

    Each has mean 0: a multiple of its envelope is taken off.
    """
    width, frequency = _WIDTH * 2**scale, _FREQUENCY / 2**scale
    y, x = _grid(width / _SLANT)
    waves = []
    for direction in range(DIRECTIONS):
        angle = math.pi * direction / DIRECTIONS
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        envelope = torch.exp(-(along**2 + (_SLANT * across) ** 2) / (2 * width**2))
        envelope = envelope * _SLANT / (2 * math.pi * width**2)
        wave = envelope * torch.exp(1j * frequency * along)
        waves.append(wave - envelope * (wave.sum() / envelope.sum()))
    stacked = torch.stack(waves)
    return torch.cat([stacked.real, stacked.imag]).unsqueeze(1).float().to(device)


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _lowpass(device: torch.device) -> Tensor:
    """Return phi, a Gaussian that adds up to 1: (K, K)."""
    width = _WIDTH * 2 ** (SCALES - 1)
    y, x = _grid(width)
    phi = torch.exp(-(x**2 + y**2) / (2 * width**2))
    return (phi / phi.sum()).float().to(device)


def _grid(width: float) -> tuple[Tensor, Tensor]:
    """Return the coordinates of a square of pixels that holds an envelope, float64."""
    reach = math.ceil(_REACH * width)
    line = torch.arange(-reach, reach + 1, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return y, x


def _build(cfg: ModelConfig, *, outputs: int, channels: int) -> nn.Module:
    return ScatteringNet(outputs, channels)


MODEL = Architecture(
    _build,
    stem="",
    head="classifier",
    min_image_size=32,
    explained="front.2",  # what the linear layer reads
    map_side=lambda pixels: GRID,
    has_norm=False,
)
