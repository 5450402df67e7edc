"""The arms of one experiment in one process: federated, relayed, pooled, each site by itself.

All are judged on the same test images. A federated arm is the real app over sites in memory, with
secure aggregation as the experiment has it; the others are the product's baselines.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from primia_bench.topologies.in_memory import Failing, train
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.data.dataset import LabelledImages, load_test
from primia_flwr.models.card import ModelCard
from primia_flwr.models.saved import load_model
from primia_flwr.pipeline.baselines.compared import train_baselines
from primia_flwr.statistics.intervals import Statistic, Strata, bootstrap_limits, bootstrapped
from primia_flwr.tasks.predictions import Predictions
from primia_flwr.training.device import pick_device
from primia_flwr.training.evaluate import predict
from primia_flwr.training.normalisation import Normalisation


def words_of(folder: Path, sites: int, seed: int, *more: str) -> list[str]:
    """Return the words of a run with so many sites, on images drawn for this seed."""
    names = ",".join(f"site-{number}" for number in range(1, sites + 1))
    return [
        f"seed={seed}", f"data.synthetic.seed={seed}", f"data.cache_dir={folder / 'cache'}",
        f"federation.sites=[{names}]", f"federation.min_sites={sites}",
        "training.threads=1", "tracking=disabled", *more,
    ]  # fmt: skip


def size_of(experiment: Experiment) -> dict[str, int]:
    """Return how much was trained on, and how long."""
    return {
        "patients": experiment.data.synthetic.patients,
        "pixels": experiment.data.image_size,
        "rounds": experiment.federation.rounds,
    }


def federated(folder: Path, words: list[str]) -> tuple[Experiment, Predictions, dict[str, Any]]:
    """Train with all sites; return the experiment, the test predictions, and facts of the run."""
    experiment, _, _ = train(folder, words, Failing(0, 0))
    model, card = load_model(folder)
    facts = {"best_round": card.round, "privacy": card.privacy}
    return experiment, _predicted(model, card, _test(experiment)), facts


def baselines(
    experiment: Experiment, names: Sequence[str], **training: Any
) -> Iterator[tuple[str, Predictions]]:
    """Train `local` and `centralised` models; yields their names and test predictions.

    `training`: what they have otherwise than the federation.
    """
    test, own = _test(experiment), replace(experiment.training, **training)
    asked = replace(experiment, baselines=list(names), training=own)
    no_run = Path(experiment.data.cache_dir)  # of no known length: trained in this process
    for name, model, card in train_baselines(asked, no_run, lambda *_: None):
        yield name, _predicted(model, card, test)


def gap(first: Statistic, second: Statistic, strata: Strata) -> dict[str, Any]:
    """Return the difference of two models' first figures, with its interval by patient."""
    limits = bootstrap_limits(
        lambda weights: first(weights)[:1] - second(weights)[:1],
        strata,
        rng=np.random.default_rng(0),
    )
    row = np.stack(limits, axis=1)[0]
    return bootstrapped(row, patients=strata.size, rate=False).to_dict()


def _test(experiment: Experiment) -> LabelledImages:
    return load_test(experiment.data, seed=experiment.seed)


def _predicted(model: nn.Module, card: ModelCard, test: LabelledImages) -> Predictions:
    outputs = predict(
        model,
        test,
        normalisation=Normalisation(card.mean, card.std),
        batch_size=64,
        device=pick_device("cpu"),
    )
    return Predictions(test.files, test.patients, test.labels.numpy(), outputs, test.classes)
