"""The run that is attacked: its model, whom it was trained on, and images it never saw.

Members are the training images of all sites of a simulation, dealt out again from the run's
configuration; non-members are the test patients, whom no site held. Whether the images are those of
the run is checked against what the run wrote down about them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from primia_flwr.attacks.membership.lira import BoolArray
from primia_flwr.attacks.one_class import check_one_class
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import config_hash
from primia_flwr.config.stored import read_config
from primia_flwr.data.dataset import LabelledImages, SiteData, load_site, load_test
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.evaluation.predictions import read_predictions
from primia_flwr.models.card import ModelCard
from primia_flwr.models.saved import load_model
from primia_flwr.runs.folder import read_object
from primia_flwr.runs.metadata import label_counts
from primia_flwr.training.private import unit_names


@dataclass(frozen=True)
class AttackedRun:
    """A finished simulation: experiment, final model, card, the facts of run.json."""

    folder: Path
    experiment: Experiment
    model: nn.Module
    card: ModelCard
    facts: dict[str, Any]


@dataclass(frozen=True)
class TargetSize:
    """The attacked model's training: images and units of privacy of all its sites together."""

    images: int
    units: int
    sites: int


@dataclass(frozen=True)
class Questioned:
    """The images about which the attack asks "was it trained on?", and what the attacker holds.

    `member`: (N,) bool, the truth. `pool`: the attacker's images; None where they are the
    questioned ones themselves. `target`: how much the model was trained on. `own_site`: the
    hospital that attacks, empty for an outsider.
    """

    images: LabelledImages
    member: BoolArray
    pool: LabelledImages | None
    target: TargetSize
    own_site: str = ""


def open_run(folder: Path) -> AttackedRun:
    """Read the folder of a run.

    Raises
    ------
    ConfigError
        If it has no config.yaml, the model is not of this configuration, or the run was made with
        real sites, whose images are not here.
    CheckpointError
        If there is no model.
    """
    model, card = load_model(folder, single=True)
    path = folder / "config.yaml"
    if not path.is_file():
        raise ConfigError(
            f"{path} is missing, so whom the model was trained on is unknown; expected the whole "
            "output folder of a run"
        )
    experiment = read_config(path)
    check_one_class(experiment)
    if experiment.deployment.kind != "simulation":
        raise ConfigError(
            f"run={folder} was made with real sites, whose images are not on this machine; "
            "expected a simulation: make one with the same experiment on images of your own"
        )
    if config_hash(experiment) != card.config_hash:
        raise ConfigError(
            f"{path} is not the configuration that the model was trained with (its hash is "
            f"{config_hash(experiment)}, the model's {card.config_hash}); expected the files of "
            "one run; copy the whole run folder again"
        )
    return AttackedRun(folder, experiment, model, card, read_object(folder / "run.json"))


def questioned(run: AttackedRun, *, own_site: str = "") -> Questioned:
    """Load the run's images again, and ask about all of them, or as one of its hospitals.

    Parameters
    ----------
    run : AttackedRun
        With the paths of its data as they are on this machine.
    own_site : str
        Empty: about all training images, and the attacker's images are those in question. A
        site's name: about the other sites' training images, and the attacker's are its own.

    Raises
    ------
    ConfigError
        If `own_site` is not a site of the run, or the only one.
    DataError
        If the images cannot be read, are not those of the run, or there are no test patients.
    """
    names = run.experiment.federation.sites
    if own_site and (own_site not in names or len(names) < 2):
        raise ConfigError(
            f"site={own_site}; expected one of at least two sites of the run: {', '.join(names)}"
        )
    sites = [_site(run.experiment, index) for index in range(len(names))]
    test = load_test(run.experiment.data, seed=run.experiment.seed)
    _check_same_images(run, sites, test)
    trained = {site.name: _trained_on(run.experiment, site) for site in sites}
    everybody = _joined(list(trained.values()))
    units = len(set(unit_names(run.experiment.privacy.unit, everybody)))
    target = TargetSize(len(everybody), units, len(sites))
    pool = None
    if own_site:
        own = next(site for site in sites if site.name == own_site)
        pool = own.train.joined(own.val)
        del trained[own_site]
    members = _joined(list(trained.values()))
    shared = set(members.patients) & set(test.patients)
    if shared:
        raise DataError(
            f"{len(shared)} patient(s) are members and test patients; expected each on one side"
        )
    member = np.arange(len(members) + len(test)) < len(members)
    return Questioned(members.joined(test), member, pool, target, own_site)


def _trained_on(experiment: Experiment, site: SiteData) -> LabelledImages:
    """Return what a site trains on: without its validation images, but in a private run all."""
    return site.train.joined(site.val) if experiment.privacy.enabled else site.train


def _check_same_images(run: AttackedRun, sites: Sequence[SiteData], test: LabelledImages) -> None:
    """Compare images with what the run wrote down: counts at every site, files of the test set."""
    for site, noted in zip(sites, run.facts.get("sites") or [], strict=False):
        for key, value in _counts(site).items():
            if key in noted and noted[key] != value:
                raise _other_data(f"{site.name} has {key} {value}, in the run it had {noted[key]}")
    predictions = run.folder / "predictions.csv"
    if predictions.is_file():
        noted_files = read_predictions(predictions, test.task.judge).files
        if set(noted_files) != set(test.files):
            new = len(set(test.files) - set(noted_files))
            raise _other_data(f"{new} of {len(test)} test images were not in the run's test set")


def _counts(site: SiteData) -> dict[str, Any]:
    """Return the counts that run.json has of a simulated site, under the same names."""
    counts = label_counts(site.train)
    return {"train": len(site.train), "val": len(site.val), "label_counts": counts}


def _other_data(what: str) -> DataError:
    return DataError(
        f"the images are not those of the run: {what}; expected the same files, so that it is "
        "known who is a member; correct data.root or data.manifest"
    )


def _site(experiment: Experiment, index: int) -> SiteData:
    names = experiment.federation.sites
    return load_site(
        experiment.data,
        seed=experiment.seed,
        site_index=index,
        num_sites=len(names),
        site_names=names,
    )


def _joined(parts: Sequence[LabelledImages]) -> LabelledImages:
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.joined(part)
    return whole
