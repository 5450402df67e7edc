"""How a site of a simulation trains, for attacks that repeat its training outside of the run."""

from dataclasses import replace

import torch

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import EarlyStoppingConfig
from primia_flwr.training.device import derive_seed
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.recipe import Recipe


def recipe_at(
    site: str, experiment: Experiment, normalisation: Normalisation, device: torch.device
) -> Recipe:
    """Return the recipe by which a site trains in the run, with its seed; no round ends early."""
    return Recipe(
        replace(experiment.training, early_stopping=EarlyStoppingConfig()),
        normalisation,
        derive_seed(experiment.seed, "site", site),
        augmentation=experiment.data.augmentation,
        mixup=experiment.data.mixup,
        device=device,
    )
