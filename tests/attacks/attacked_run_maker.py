"""A run folder as a simulation leaves it, but trained in one place: no Flower, a few seconds.

The radiographs are synthetic and without findings (severity 0), so that whatever the model gets
right on its training images it has memorised.
"""

import json
from dataclasses import replace
from pathlib import Path

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, load_experiment, parse, to_yaml
from primia_flwr.data.dataset import load_pooled, load_test
from primia_flwr.models.saved import save_model
from primia_flwr.pipeline.experiment import simulated_sites
from primia_flwr.pipeline.first_model import first_model, model_card
from primia_flwr.pipeline.scoring import score_model
from primia_flwr.runs.metadata import data_facts
from primia_flwr.storage.atomic import write_result
from primia_flwr.training.device import derive_seed
from primia_flwr.training.fit import fit
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.plan import LocalPlan
from primia_flwr.training.recipe import Recipe

MEMORISED = (
    "data.synthetic.patients=60",
    "data.synthetic.severity=0",
    "data.test_fraction=0.4",
    "data.image_size=32",
    "model=simpleconv",
    "training.batch_size=16",
    "training.local_epochs=10",
    "training.threads=1",
    "training.device=cpu",
    "federation.rounds=3",
)
PRIVATE = (
    "privacy=dp_sgd",
    "privacy.epsilon=4",
    "privacy.delta=1e-3",
    "privacy.expected_batch=8",
    "privacy.steps=2",
    "model.norm_groups=8",
)


def make_run(folder: Path, cache: Path, *overrides: str, train: bool = True) -> Path:
    """Write config.yaml, model, run.json and predictions.csv; the model has seen all members."""
    folder.mkdir(parents=True)
    words = [*MEMORISED, f"data.cache_dir={cache}", *overrides]
    experiment = replace(parse(Experiment, compose("config", words)), output_dir=str(folder))
    (folder / "config.yaml").write_text(to_yaml(experiment))
    experiment = load_experiment((folder / "config.yaml").read_text())
    names = experiment.federation.sites
    pooled = load_pooled(experiment.data, seed=1, num_sites=len(names), site_names=names)
    normalisation = Normalisation((0.5,), (0.25,))
    model = first_model(experiment, len(pooled.train.classes))
    if train:
        recipe = Recipe(experiment.training, normalisation, derive_seed(1, "test"))
        steps = 30 * (len(pooled.train) // 16 + 1)
        fit(model, pooled.train, None, recipe, LocalPlan(0, steps, max_batches=steps))
    card = model_card(experiment, pooled.train.classes, normalisation, experiment.federation.rounds)
    save_model(folder, model, card)
    test = load_test(experiment.data, seed=1)
    score_model(model, card, test, folder / "predictions.csv", batch_size=64, device="cpu")
    write_result(folder / "run.json", data_facts(simulated_sites(experiment), test))
    return folder


def change_json(path: Path, **changes: object) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
