"""What a simulated federation is compared with: each site on its own, and all images in one place.

Every model starts from the federation's first weights and sees as many image passes as its
data gives in the federated run.
"""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.data.dataset import DealtSites
from primia_flwr.models.card import ENSEMBLE, ModelCard
from primia_flwr.models.ensemble import Ensemble
from primia_flwr.models.votes import Votes
from primia_flwr.pipeline.baselines.beside import train_beside
from primia_flwr.pipeline.baselines.lanes import lanes_of
from primia_flwr.pipeline.baselines.one import (
    CENTRALISED,
    Step,
    Trained,
    data_of,
    dealt_sites,
    local,
    model_of,
    train,
)
from primia_flwr.processes.children import available_cores
from primia_flwr.processes.room import available_bytes
from primia_flwr.runs.folder import training_seconds
from primia_flwr.training.normalisation import Normalisation

_Model = tuple[str, nn.Module, ModelCard]


def train_baselines(experiment: Experiment, run_dir: Path, step: Step) -> Generator[_Model]:
    """Train the baselines that `baselines` names; yields name, model and card of each.

    Side by side where that pays (`lanes`). Who does not take all closes the iterator.

    Parameters
    ----------
    experiment : Experiment
        The federated run's.
    run_dir : Path
        Its folder.
    step : callable
        Told how far each is.

    Raises
    ------
    PrimiaError
        As `one.train`.
    """
    members = dict[str, nn.Module]()
    names, sites = _names(experiment), [local(site) for site in experiment.federation.sites]
    for name, trained in _trained(experiment, run_dir, names, step):
        model, card = model_of(experiment, trained)
        if name in sites and "ensemble" in experiment.baselines:
            one = _Normalised(model, Normalisation(card.mean, card.std))
            members[name.removeprefix(local(""))] = one
        if name == CENTRALISED or "local" in experiment.baselines:
            yield name, model, card
        if name == sites[-1] and members:
            yield _ensemble(experiment, members, card)


def _names(experiment: Experiment) -> list[str]:
    """Return what is to be trained, each once."""
    asked, names = set(experiment.baselines), list[str]()
    if {"local", "ensemble"} & asked:
        names += [local(site) for site in experiment.federation.sites]
    return names + [CENTRALISED] * (CENTRALISED in asked)


def _trained(
    experiment: Experiment, run_dir: Path, names: list[str], step: Step
) -> Generator[tuple[str, Trained]]:
    """Yield what comes of each, in order, from this process or from processes of their own."""
    dealt = dealt_sites(experiment)
    images = _images(dealt, names)
    passes = sum(images.values()) / sum(map(len, dealt.sites.values()))
    seconds = passes * training_seconds(run_dir)
    lanes = lanes_of(
        experiment, images, seconds=seconds, cores=available_cores(), memory=available_bytes()
    )
    if len(lanes) > 1:
        yield from train_beside(experiment, run_dir, names, lanes, step)
        return
    for name in names:
        yield name, train(experiment, name, data_of(experiment, dealt, name), step)


def _images(dealt: DealtSites, names: list[str]) -> dict[str, int]:
    """Return how many images each has, training and validation together."""
    own = {local(site): len(manifest) for site, manifest in dealt.sites.items()}
    return {name: sum(own.values()) if name == CENTRALISED else own[name] for name in names}


def _ensemble(experiment: Experiment, members: dict[str, nn.Module], card: ModelCard) -> _Model:
    """Return the local models as one that has them vote; `card` of any of them."""
    votes = Votes.of(experiment.task.name, "mean", dict.fromkeys(members, 1.0))
    nothing, one = (0.0,) * card.channels, (1.0,) * card.channels
    card = replace(card, votes=votes, kind=ENSEMBLE, mean=nothing, std=one)
    return "ensemble", Ensemble(members, votes), card


class _Normalised(nn.Module):
    """A model that brings raw pixels to the mean and deviation of its own site."""

    def __init__(self, model: nn.Module, normalisation: Normalisation) -> None:
        super().__init__()
        self.model, self._normalisation = model, normalisation

    def forward(self, images: Tensor) -> Tensor:
        """Return what the model makes of pixels in [0, 1]."""
        out: Tensor = self.model(self._normalisation.apply(images))
        return out
