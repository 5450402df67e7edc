"""What is trained: bytes, MCC and private MCC of `model.trainable=head|norm|lora|all`.

A network is trained with batch norm on other patients of the first scanner; three sites with
scanners of their own start from it, its statistics frozen. Plain sums are secure ones of the same
sites; private runs are DP-SGD at the epsilon that is asked. All are scored on the test patients of
all sites, the network as it arrives, too. Beside that: how large an update of each pre-trained
model is, which needs no training (`--seeds` without a number).

    python -m primia_bench.models.small_updates --seeds 1 2 3 --output results.json
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import matthews_corrcoef

from primia_bench.machine import describe_machine, publish, save
from primia_bench.models.federated import bytes_up, mean_interval, score, train
from primia_bench.models.scanners import SITES, write_sites
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models import build_model
from primia_flwr.models.frozen_arrays import frozen_of, without

_TRAINABLE = ("head", "norm", "lora", "all")
_PRETRAINED = (
    ("efficientnet_lite0", "batch"),
    ("efficientnet_lite0", "frozen"),
    ("mobilenet_v2", "batch"),
    ("densenet121", "batch"),
    ("resnet18", "batch"),
)
_COMMON = ("data.image_size=32", "training.learning_rate=0.003")
_FROZEN = ("model.norm=frozen", "model.weight_standardisation=false")


def pretrained(folder: Path, patients: int) -> Path:
    """Train on patients of another seed, all on the first scanner; return the weights."""
    data = write_sites(folder / "others", patients=patients, seed=1000, shifted=False)
    words = ("federation.rounds=8", "training.local_epochs=3", "seed=7", *_COMMON)
    return train(data, folder / "pretrained", *words) / "model.safetensors"


def one_run(data: Path, run: Path, *words: str) -> dict[str, float]:
    """Train once; return the MCC of all sites' test images, and the bytes of a round."""
    train(data, run, *_COMMON, *_FROZEN, *words)
    return {"mcc": mcc(run, data), "bytes_up": bytes_up(run)}


def mcc(run: Path, data: Path) -> float:
    """Return the MCC of a run's model on the test images of all sites together."""
    found = [score(run, data, site) for site in SITES]
    labels = np.concatenate([one.labels for one in found])
    called = np.concatenate([one.outputs.argmax(axis=1) for one in found])
    return float(matthews_corrcoef(labels, called))


def words_of(trainable: str, weights: Path, seed: int, rounds: int, epsilon: float) -> list[str]:
    """Return what differs between runs; `epsilon` 0: not private."""
    words = [f"model.trainable={trainable}", f"model.weights={weights}", f"seed={seed}"]
    words.append(f"federation.rounds={rounds}")
    if epsilon:
        words += ["privacy=dp_sgd", f"privacy.epsilon={epsilon:g}"]
        words.append("privacy.weights_without_patients=true")
    return words


def sizes() -> dict[str, dict[str, float]]:
    """Return the megabytes of one site's update by model and by what is trained; 3 classes."""
    found: dict[str, dict[str, float]] = {}
    for name, norm in _PRETRAINED:
        for trainable in _TRAINABLE:
            cfg = ModelConfig(name=name, norm=norm, trainable=trainable, weights="w.pth")
            with torch.device("meta"):
                model = build_model(cfg, outputs=3, channels=1, first_weights=False)
            sent = without(model.state_dict(), frozen_of(cfg, model))
            numbers = sum(value.numel() for value in sent.values() if value.is_floating_point())
            found.setdefault(f"{name}, {norm}", {})[trainable] = round(4e-6 * numbers, 3)
    return found


def summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return MCC over seeds, and the bytes of a round of all sites."""
    return {
        name: {
            "mcc": mean_interval([run["mcc"] for run in of]),
            "megabytes_up_a_round": round(of[-1].get("bytes_up", 0) / 1e6, 3),
        }
        for name, of in runs.items()
        if of
    }


def main() -> None:
    """Train all and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--epsilon", type=float, default=3.0)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    arguments = parser.parse_args()
    document: dict[str, Any] = {
        "benchmark": "small_updates",
        "settings": {key: vars(arguments)[key] for key in ("rounds", "patients", "epsilon")},
        "machine": describe_machine(),
        "megabytes_of_an_update": sizes(),
    }
    runs: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="primia-small-") as name:
        folder = Path(name)
        weights = pretrained(folder, arguments.patients) if arguments.seeds else Path()
        for place, seed in enumerate(arguments.seeds, 1):
            data = write_sites(folder / f"data-{seed}", patients=arguments.patients, seed=seed)
            runs.setdefault("as it arrives", []).append({"mcc": mcc(weights.parent, data)})
            for epsilon in (0.0, arguments.epsilon):
                for trainable in _TRAINABLE:
                    kind = f"{trainable}, epsilon {epsilon:g}" if epsilon else trainable
                    run = folder / f"run-{seed}-{trainable}-{epsilon:g}"
                    words = words_of(trainable, weights, seed, arguments.rounds, epsilon)
                    runs.setdefault(kind, []).append(one_run(data, run, *words))
                    document |= {"found": summary(runs), "seeds": arguments.seeds[:place]}
                    save(document, arguments.output)
    publish(document, arguments.output)


if __name__ == "__main__":
    main()
