"""How hard the synthetic radiographs are for a linear model, and for the demo's ResNet-18.

Logistic regression on the normalised 64 x 64 pixels, its strength chosen on validation images,
is what a shortcut in the pictures would show up in. Beside it stand the scores of a demo run.

    python -m primia_bench.training.synthetic_difficulty --run outputs/...-demo \
        --output results.json
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from primia_bench.machine import describe_machine, publish
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse
from primia_flwr.data.dataset import LabelledImages, load_pooled, load_test
from primia_flwr.runs.metadata import read_json
from primia_flwr.tasks.classes.scores import Scores, score

_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)


def linear_scores(experiment: Experiment) -> Scores:
    """Return the best linear model's scores on the demo's test set."""
    sites, seed = len(experiment.federation.sites), experiment.seed
    pooled = load_pooled(experiment.data, seed=seed, num_sites=sites)
    test = load_test(experiment.data, seed=seed)
    train_x, train_y = _pixels(pooled.train)
    models = [LogisticRegression(C=c, max_iter=500).fit(train_x, train_y) for c in _STRENGTHS]
    val_x, val_y = _pixels(pooled.val)
    best = max(models, key=lambda model: model.score(val_x, val_y))
    test_x, test_y = _pixels(test)
    return score(test_y, best.predict_proba(test_x), test.classes)


def _pixels(data: LabelledImages) -> tuple[np.ndarray, np.ndarray]:
    flat = data.images.numpy().reshape(len(data), -1).astype(np.float32) / 255
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / flat.std(axis=1, keepdims=True), data.labels.numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--run", type=Path, help="a finished run of experiment=demo")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    arguments = parser.parse_args()
    experiment = parse(Experiment, compose("config", ["experiment=demo"]))
    linear = linear_scores(experiment)
    document: dict[str, Any] = {
        "benchmark": "synthetic_difficulty",
        "linear": {"balanced_accuracy": linear.balanced_accuracy, "roc_auc": linear.roc_auc},
        "synthetic": experiment.data.synthetic.__dict__,
        "machine": describe_machine(),
    }
    if arguments.run:
        metrics = read_json(arguments.run / "metrics.json")
        for name in ("federated", "centralised"):
            keys = ("balanced_accuracy", "roc_auc")
            document[name] = {key: metrics[name][key] for key in keys}
    publish(document, arguments.output)


if __name__ == "__main__":
    main()
