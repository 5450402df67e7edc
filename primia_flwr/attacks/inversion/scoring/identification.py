"""Does a reconstruction give the patient away? Its nearest neighbour among known images says.

The attacker is given the sites' real images and looks which is most like the reconstruction: by
correlation of the pixels, and by cosine similarity of features. Whether the patient of that image
is the one of the original counts; guessing would be right as often as `chance`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.stats import binomtest
from torch import Tensor, nn
from torch.nn import functional

from primia_flwr.data.dataset import LabelledImages

_CHUNK = 256  # images whose features are computed at once


@dataclass(frozen=True)
class Identified:
    """`hits` of `n` reconstructions led to the right patient; `chance`: mean share of guesses.

    `p_value`: one-sided, exact binomial at the mean chance: that guessing does as well.
    """

    hits: int
    n: int
    chance: float
    p_value: float


class Gallery:
    """The images among which a patient is looked for.

    Parameters
    ----------
    images : LabelledImages
        uint8 images with their patients; at least one.
    features : nn.Module
        (N, C, H, W) in [0, 1] to (N, features).
    """

    def __init__(self, images: LabelledImages, features: nn.Module) -> None:
        self._images, self._patients = images, images.patients
        self._features = features
        pixels = images.images.float() / 255
        self._vectors = {
            "pixels": _centred(pixels),
            "features": torch.cat([self._embed(part) for part in torch.split(pixels, _CHUNK)]),
        }

    def chance_of(self, patient: str) -> float:
        """Return the share of the images that are of a patient."""
        return self._patients.count(patient) / len(self._patients)

    def nearest(self, reconstruction: Tensor, space: str) -> str:
        """Return the patient of the nearest image; `space` is pixels or features."""
        image = reconstruction[None].float()
        vector = _centred(image) if space == "pixels" else self._embed(image)
        return self._patients[int((self._vectors[space] @ vector[0]).argmax())]

    def strangers(self, patients: Sequence[str], count: int, *, seed: int) -> list[Tensor]:
        """Return images of other patients, drawn without repeats: `count`, or all there are.

        (C, H, W) float each, in [0, 1].
        """
        others = [row for row, name in enumerate(self._patients) if name not in set(patients)]
        order = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))
        rows = [others[index] for index in order[:count].tolist()]
        return [self._images.images[row].float() / 255 for row in rows]

    def _embed(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return functional.normalize(self._features(images).flatten(1), dim=1)


def identified(found: Sequence[str], attacked: Sequence[str], gallery: Gallery) -> Identified:
    """Count how often the patient that was found is the attacked one.

    Raises
    ------
    ValueError
        If the two differ in length, or are empty.
    """
    hits = sum(a == b for a, b in zip(found, attacked, strict=True))
    chance = sum(gallery.chance_of(patient) for patient in attacked) / len(attacked)
    test = binomtest(hits, len(attacked), min(chance, 1.0), alternative="greater")
    return Identified(hits, len(attacked), chance, float(test.pvalue))


def _centred(images: Tensor) -> Tensor:
    """Return each image's pixels less their mean, at unit length: correlation is a product."""
    flat = images.flatten(1)
    return functional.normalize(flat - flat.mean(dim=1, keepdim=True), dim=1)
