"""How a model is trained, apart from which images and which steps."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from primia_flwr.config.experiment.data import AugmentationConfig, MixupConfig
from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.training.normalisation import Normalisation


@dataclass(frozen=True)
class Recipe:
    """What stays the same from round to round.

    Parameters
    ----------
    training : TrainingConfig
        Optimiser, schedule, loss, precision, threads.
    normalisation : Normalisation
        Of the pixels, over the federation.
    seed : int
        Of the experiment and the site: orders and augments the images.
    augmentation, mixup : optional
        Random changes of the training images; none if not given.
    class_weights : sequence of float, optional
        For `class_weights=balanced`: of the federation; from the training images if not given.
    device : torch.device, optional
        Overrules `training.device`.
    """

    training: TrainingConfig
    normalisation: Normalisation
    seed: int
    augmentation: AugmentationConfig | None = None
    mixup: MixupConfig | None = None
    class_weights: Sequence[float] | None = None
    device: torch.device | None = None
