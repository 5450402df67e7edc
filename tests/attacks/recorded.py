"""A recorded run of one-step rounds, made without Flower: the sites' own training, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.data import DataConfig, SyntheticConfig
from primia_flwr.config.experiment.debug import DebugConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import ModelConfig, TrainingConfig
from primia_flwr.config.load import to_yaml
from primia_flwr.data.dataset import load_site
from primia_flwr.models.saved import save_model
from primia_flwr.pipeline.first_model import first_model, model_card
from primia_flwr.runs.recording import Recording
from primia_flwr.training.device import derive_seed
from primia_flwr.training.fit import fit
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.plan import plan_round
from primia_flwr.training.recipe import Recipe

NORMALISATION = Normalisation((0.5,), (0.25,))
SITES = ["a", "b", "c"]


def experiment_of(folder: Path, *, norm: str = "group", batch_size: int = 1) -> Experiment:
    return Experiment(
        data=DataConfig(
            image_size=16,
            synthetic=SyntheticConfig(patients=30),
            cache_dir=str(folder / "cache"),
            classes=["bacterial", "normal", "viral"],
        ),
        model=ModelConfig(name="simpleconv", norm=norm),
        training=TrainingConfig(
            optimizer="sgd", learning_rate=0.1, momentum=0.0, weight_decay=0.0,
            schedule="constant", warmup=0.0, batch_size=batch_size, sync_every_n_batches=1,
            threads=1, device="cpu",
        ),
        debug=DebugConfig(record_received=True),
        federation=FederationConfig(rounds=2, sites=SITES, min_sites=2),
    )  # fmt: skip


def secure(experiment: Experiment) -> Experiment:
    federation = replace(experiment.federation, min_sites=3)
    aggregation = AggregationConfig(name="secure")
    return replace(experiment, aggregation=aggregation, federation=federation)


def record(experiment: Experiment, folder: Path) -> Path:
    """Let the sites train round 2 of a run from its first model; keep what would be received."""
    model = first_model(experiment, 3)
    base = {n: t.numpy().copy() for n, t in model.state_dict().items() if t.is_floating_point()}
    recording = Recording(folder)
    recording.begin(2, base, sent=base)
    changes = []
    for index, name in enumerate(SITES):
        after = _trained(experiment, index, name)
        flat = [(after[n] - base[n]).ravel() for n in sorted(base)]
        changes.append(np.concatenate(flat))
        if experiment.aggregation.secure:
            words = np.random.default_rng(index).integers(0, 2**32, changes[-1].size, np.uint32)
            recording.masked(2, name, [words, np.zeros(1, np.uint64)])
        else:
            recording.site_model(2, name, after)
    if experiment.aggregation.secure:
        recording.opened(2, np.mean(changes, axis=0, dtype=np.float32), SITES)
    card = model_card(experiment, ("bacterial", "normal", "viral"), NORMALISATION, 2)
    save_model(folder, model, card)
    (folder / "config.yaml").write_text(to_yaml(experiment))
    return folder


def _trained(experiment: Experiment, index: int, name: str) -> dict[str, np.ndarray]:
    data = load_site(
        experiment.data, seed=experiment.seed, site_index=index, num_sites=3, site_names=SITES
    )
    model = first_model(experiment, 3)
    recipe = Recipe(experiment.training, NORMALISATION, derive_seed(experiment.seed, "site", name))
    plan = plan_round(
        experiment.training, num_examples=len(data.train), round_number=2, num_rounds=2
    )
    result = fit(model, data.train, None, recipe, plan)
    return {n: t.numpy() for n, t in result.state.items() if t.is_floating_point()}


def normalised(images: Tensor) -> Tensor:
    return NORMALISATION.apply(images)
