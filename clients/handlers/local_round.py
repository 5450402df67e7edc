"""One round of ordinary training on a site's images, as the experiment says."""

from collections.abc import Sequence

import torch
from torch import nn

from clients.site.opened import OpenSite
from clients.site.progress import progress_writer
from clients.site.state import RoundState
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.training.device import derive_seed
from primia_flwr.training.fit import FitResult, fit
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.plan import plan_round
from primia_flwr.training.recipe import Recipe


def recipe_of(
    site: OpenSite, normalisation: Normalisation, class_weights: Sequence[float] | None = None
) -> Recipe:
    """Return how this site trains."""
    experiment = site.experiment
    return Recipe(
        experiment.training,
        normalisation,
        derive_seed(experiment.seed, "site", site.name),
        augmentation=experiment.data.augmentation,
        mixup=experiment.data.mixup,
        class_weights=class_weights,
        device=site.device,
    )


def add_unsent(site: OpenSite, model: nn.Module) -> None:
    """Add to a model that came what this site has not sent of its own updates."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, rest in site.unsent.items():
            parameters[name].add_(rest)


def train_round(
    site: OpenSite,
    model: nn.Module,
    recipe: Recipe,
    number: int,
    before: RoundState,
    *,
    train: LabelledImages,
    val: LabelledImages | None,
) -> FitResult:
    """Train the model for round `number`; `before`: what the site kept of the round before."""
    training, rounds = site.experiment.training, site.experiment.federation.rounds
    plan = plan_round(training, num_examples=len(train), round_number=number, num_rounds=rounds)
    add_unsent(site, model)
    return fit(
        *(model, train, val, recipe, plan),
        optimizer_state=before.optimizer or None,
        correction=site.correction,
        on_progress=progress_writer(site, number),
    )
