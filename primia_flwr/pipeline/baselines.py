"""What a simulated federation is compared with: each site on its own, and all images in one place.

Every model starts from the federation's first weights and sees as many image passes as its
data gives in the federated run.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.data.dataset import SiteData, load_pooled
from primia_flwr.data.statistics import PixelSums
from primia_flwr.models.card import ENSEMBLE, ModelCard
from primia_flwr.models.ensemble import Ensemble
from primia_flwr.models.votes import Votes
from primia_flwr.pipeline.first_model import first_model, model_card
from primia_flwr.training.baselines import BaselineRound, train_centralised, train_local
from primia_flwr.training.device import derive_seed
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.recipe import Recipe

_Step = Callable[[str, float, float, str], None]
_Trained = tuple[str, nn.Module, ModelCard]


def train_baselines(
    experiment: Experiment, sites: list[SiteData], step: _Step
) -> Iterator[_Trained]:
    """Train the baselines that `baselines` names; yields name, model and card of each.

    Parameters
    ----------
    experiment : Experiment
        The federated run's.
    sites : list of SiteData
        What the simulated sites hold.
    step : callable
        Told name, rounds done, rounds in all, and a note, after every round.
    """
    members = dict[str, nn.Module]()
    if {"local", "ensemble"} & set(experiment.baselines):
        for site in sites:
            name, model, card = _train(experiment, f"local-{site.name}", site, step)
            members[site.name] = _Normalised(model, Normalisation(card.mean, card.std))
            if "local" in experiment.baselines:
                yield name, model, card
    if "ensemble" in experiment.baselines:
        votes = Votes.of(experiment.task.name, "mean", dict.fromkeys(members, 1.0))
        nothing, one = (0.0,) * card.channels, (1.0,) * card.channels
        card = replace(card, votes=votes, kind=ENSEMBLE, mean=nothing, std=one)
        yield "ensemble", Ensemble(members, votes), card
    if "centralised" in experiment.baselines:
        names = experiment.federation.sites
        pooled = load_pooled(
            experiment.data, seed=experiment.seed, num_sites=len(names), site_names=names
        )
        yield _train(experiment, "centralised", pooled, step)


class _Normalised(nn.Module):
    """A model that brings raw pixels to the mean and deviation of its own site."""

    def __init__(self, model: nn.Module, normalisation: Normalisation) -> None:
        super().__init__()
        self.model, self._normalisation = model, normalisation

    def forward(self, images: Tensor) -> Tensor:
        """Return what the model makes of pixels in [0, 1]."""
        out: Tensor = self.model(self._normalisation.apply(images))
        return out


def _train(experiment: Experiment, name: str, data: SiteData, step: _Step) -> _Trained:
    sums = PixelSums.of(data.train)
    normalisation = Normalisation(sums.mean(), sums.std())
    model = first_model(experiment, len(data.train.classes))

    def on_round(done: BaselineRound) -> None:
        step(name, done.number, done.num_rounds, f"{done.images_per_second:.0f} images/s")

    # These words decide the random numbers: with others no baseline could be repeated.
    seed = "pooled" if name == "centralised" else f"alone-{data.name}"
    recipe = Recipe(
        experiment.training,
        normalisation,
        derive_seed(experiment.seed, "baseline", seed),
        augmentation=experiment.data.augmentation,
        mixup=experiment.data.mixup,
        class_weights=experiment.task.label_weights(sums.label_counts),
    )
    rounds, sites = experiment.federation.rounds, len(experiment.federation.sites)
    train = partial(train_centralised, num_sites=sites) if seed == "pooled" else train_local
    result = train(model, data, recipe, num_rounds=rounds, on_round=on_round)
    card = model_card(experiment, data.train.classes, normalisation, result.best_round)
    return name, model, card
