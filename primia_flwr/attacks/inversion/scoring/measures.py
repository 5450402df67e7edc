"""How like the originals reconstructions are: MSE, PSNR, SSIM, and FID with a given extractor.

LPIPS, whose weights the user must give, is in `given_networks`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from primia_flwr.compat import torchvision  # noqa: F401  (torchmetrics imports it)

# isort: split
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)
from torchmetrics.image.fid import FrechetInceptionDistance

from primia_flwr.errors import DataError


@dataclass(frozen=True)
class Likeness:
    """Of one reconstruction and its original, pixels in [0, 1].

    `mse`: mean squared error, at least 0. `psnr`: in dB. `ssim`: at most 1, Gaussian window of
    11 x 11 pixels with sigma 1.5 (Wang et al. 2004).
    """

    mse: float
    psnr: float
    ssim: float


def likeness(reconstruction: Tensor, original: Tensor) -> Likeness:
    """Compare two images, (C, H, W) float in [0, 1], of at least 11 x 11 pixels.

    Raises
    ------
    DataError
        If the shapes differ or the images are smaller than the window.
    """
    if reconstruction.shape != original.shape or min(original.shape[-2:]) < 11:
        raise DataError(
            f"a reconstruction of shape {tuple(reconstruction.shape)} and an original of "
            f"{tuple(original.shape)}; expected the same, at least 11 x 11 pixels"
        )
    made, true = reconstruction[None].float(), original[None].float()
    ssim = structural_similarity_index_measure(made, true, data_range=1.0)
    return Likeness(
        mse=float((made - true).square().mean()),
        psnr=float(peak_signal_noise_ratio(made, true, data_range=1.0)),
        ssim=float(ssim if isinstance(ssim, Tensor) else ssim[0]),
    )


def matched(reconstructions: Sequence[Tensor], originals: Sequence[Tensor]) -> list[int]:
    """Return for each reconstruction the original that it is compared with.

    An update does not tell the order of its images, so the pairing with the least total squared
    error is taken, each original at most once: in the attacker's favour.

    Raises
    ------
    DataError
        If there are fewer originals than reconstructions.
    """
    if len(originals) < len(reconstructions):
        raise DataError(
            f"{len(reconstructions)} reconstructions of {len(originals)} originals; expected at "
            "most as many"
        )
    costs = torch.cdist(_flat(reconstructions), _flat(originals)).square().numpy()
    _, columns = linear_sum_assignment(costs)
    return [int(column) for column in columns]


class _Pooled(nn.Module):
    """A feature extractor as torchmetrics takes it: uint8 images in, features out."""

    def __init__(self, features: nn.Module, num_features: int) -> None:
        super().__init__()
        self._features, self.num_features = features, num_features

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 to (N, num_features) float."""
        found: Tensor = self._features(images.float() / 255)
        return found


def frechet_distance(
    reconstructions: Sequence[Tensor], originals: Sequence[Tensor], features: nn.Module
) -> float | None:
    """Return the Fréchet distance of two sets of images in a space of features.

    With a few images it is biased upwards; compare sets of one size only.

    Parameters
    ----------
    reconstructions, originals : sequence of Tensor
        (C, H, W) each, float in [0, 1].
    features : nn.Module
        (N, C, H, W) in [0, 1] to (N, features). With Inception's it is the FID of Heusel et al.
        2017; with another network it is not comparable with theirs.

    Returns
    -------
    float or None
        None for fewer than two images on a side.
    """
    if min(len(reconstructions), len(originals)) < 2:
        return None
    with torch.no_grad():
        size = int(features(originals[0][None]).shape[1])
        metric = FrechetInceptionDistance(feature=_Pooled(features, size))
        metric.update(_as_bytes(originals), real=True)
        metric.update(_as_bytes(reconstructions), real=False)
        return max(0.0, float(metric.compute()))


def _as_bytes(images: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(images)).mul(255).round().clamp(0, 255).to(torch.uint8)


def _flat(images: Sequence[Tensor]) -> Tensor:
    return torch.stack([image.flatten().double() for image in images])
