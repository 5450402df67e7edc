"""One baseline: its images, its training, and the model that comes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.data.dataset import DealtSites, SiteData, deal_sites, load_pooled
from primia_flwr.data.statistics import PixelSums
from primia_flwr.models.card import ModelCard
from primia_flwr.pipeline.first_model import first_model, model_card
from primia_flwr.training.baselines import BaselineRound, train_centralised, train_local
from primia_flwr.training.device import derive_seed, pick_device, place
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.recipe import Recipe

CENTRALISED = "centralised"
Step = Callable[[str, float, float, str], None]
"""Told name, rounds done, rounds in all, and a note, after every round."""


@dataclass(frozen=True)
class Trained:
    """What comes of a baseline.

    Attributes
    ----------
    state
        The state dict of its best round, on the CPU.
    best_round
        Which one that was.
    mean, std
        Of its own training pixels in [0, 1], by channel.
    classes
        The names of its outputs.
    """

    state: dict[str, Tensor]
    best_round: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]


def local(site: str) -> str:
    """Return the name of the baseline of one site on its own."""
    return f"local-{site}"


def dealt_sites(experiment: Experiment) -> DealtSites:
    """Deal the images to the simulated sites as the federation had them; reads no pixel."""
    names: Sequence[str] = experiment.federation.sites
    return deal_sites(experiment.data, seed=experiment.seed, num_sites=len(names), site_names=names)


def data_of(experiment: Experiment, dealt: DealtSites, name: str) -> SiteData:
    """Load what a baseline is trained on."""
    sites = experiment.federation.sites
    if name == CENTRALISED:
        return load_pooled(
            experiment.data, seed=experiment.seed, num_sites=len(sites), site_names=sites
        )
    return dealt.open([local(site) for site in dealt.sites].index(name))


def train(experiment: Experiment, name: str, data: SiteData, step: Step) -> Trained:
    """Train one baseline: the same, bit for bit, in any process with as many threads.

    Raises
    ------
    PrimiaError
        As `train_local`.
    """
    sums = PixelSums.of(data.train)
    if experiment.data.of_volumes:
        sums = sums.alike()
    model = first_model(experiment, len(data.train.classes))

    def on_round(done: BaselineRound) -> None:
        step(name, done.number, done.num_rounds, f"{done.images_per_second:.0f} images/s")

    rounds, sites = experiment.federation.rounds, len(experiment.federation.sites)
    pooled = partial(train_centralised, num_sites=sites)
    fit = pooled if name == CENTRALISED else train_local
    recipe = _recipe(experiment, name, data, sums)
    result = fit(model, data, recipe, num_rounds=rounds, on_round=on_round)
    classes = data.train.classes
    return Trained(result.state, result.best_round, sums.mean(), sums.std(), classes)


def _recipe(experiment: Experiment, name: str, data: SiteData, sums: PixelSums) -> Recipe:
    # These words decide the random numbers: with others no baseline could be repeated.
    seed = "pooled" if name == CENTRALISED else f"alone-{data.name}"
    return Recipe(
        experiment.training,
        Normalisation(sums.mean(), sums.std()),
        derive_seed(experiment.seed, "baseline", seed),
        augmentation=experiment.data.augmentation,
        mixup=experiment.data.mixup,
        class_weights=experiment.task.label_weights(sums.label_counts),
    )


def model_of(experiment: Experiment, trained: Trained) -> tuple[nn.Module, ModelCard]:
    """Return the model, where and as it was trained, and its card."""
    training = experiment.training
    model = first_model(experiment, len(trained.classes))
    place(model, pick_device(training.device), channels_last=training.channels_last)
    model.load_state_dict(trained.state)
    normalisation = Normalisation(trained.mean, trained.std)
    return model, model_card(experiment, trained.classes, normalisation, trained.best_round)
