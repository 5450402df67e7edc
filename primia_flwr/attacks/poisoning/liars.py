"""What a lying site trains on, and what it sends of it.

Sources: label flips, Tolpegin et al. 2020, Data Poisoning Attacks Against Federated Learning
Systems; boosted updates and back doors, Bagdasaryan et al. 2020, How To Backdoor Federated
Learning; trigger patches, Gu et al. 2017, BadNets.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from primia_flwr.data.dataset import LabelledImages

ATTACKS = ("none", "label_flip", "boosted", "backdoor")
_POISONED = 2  # every second image of a back door's site bears the trigger


@dataclass(frozen=True)
class Lie:
    """One kind of lie.

    Parameters
    ----------
    attack : str
        One of `ATTACKS`. `label_flip`: every label is the next class; `boosted`: the update of such
        a training, `boost` times; `backdoor`: every second image bears a white square and the label
        `target`, and the update is sent `boost` times.
    boost : float
        The factor of an update that takes over a mean of n equal sites: n over the liars.
    target : int
        The class that a trigger shall give.
    patch : int
        The side of the square in pixels, in the lower right corner.
    """

    attack: str
    boost: float
    target: int
    patch: int

    def trained_on(self, images: LabelledImages) -> LabelledImages:
        """Return what a liar trains on in place of its images."""
        if self.attack in ("label_flip", "boosted"):
            return replace(images, labels=(images.labels + 1) % len(images.classes))
        if self.attack == "backdoor":
            return self._with_trigger(images)
        return images

    @property
    def factor(self) -> float:
        """By how much a liar multiplies its update."""
        return self.boost if self.attack in ("boosted", "backdoor") else 1.0

    def triggered(self, images: Tensor) -> Tensor:
        """Return uint8 images (N, C, S, S) with the white square."""
        marked = images.clone()
        marked[..., -self.patch :, -self.patch :] = 255
        return marked

    def _with_trigger(self, images: LabelledImages) -> LabelledImages:
        chosen = torch.arange(len(images)) % _POISONED == 0
        pixels, labels = images.images.clone(), images.labels.clone()
        pixels[chosen] = self.triggered(pixels[chosen])
        labels[chosen] = self.target
        return replace(images, images=pixels, labels=labels)
