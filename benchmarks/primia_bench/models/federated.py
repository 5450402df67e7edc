"""Train a federation of the three scanners by the command line, and score its models by site."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import matthews_corrcoef

from primia_bench.models.scanners import SITES
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.dataset import LabelledImages, load_images
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.models import load_model
from primia_flwr.storage import plain_csv
from primia_flwr.training.device import pick_device
from primia_flwr.training.evaluate import predict
from primia_flwr.training.normalisation import Normalisation

_COMMON = (
    "data=manifest", "data.partition.kind=manifest", "data.image_size=64", "data.resize=squash",
    "model=simpleconv", "training.batch_size=16", "training.threads=1", "tracking=disabled",
    "report.saliency=0", "quiet=true", f"federation.sites=[{','.join(SITES)}]",
    "federation.min_sites=3",
)  # fmt: skip


def train(data: Path, run: Path, *words: str) -> Path:
    """Run `primia train` on the manifest of a folder, and return the run's folder."""
    settings = [*_COMMON, f"data.manifest={data / 'all.csv'}", f"output_dir={run}", *words]
    command = [sys.executable, "-m", "primia_flwr.cli.main", "train", *settings]
    subprocess.run(command, cwd=run.parent, check=True, stdout=subprocess.DEVNULL)
    return run


@dataclass(frozen=True)
class Scored:
    """Test images of one site: true classes, probabilities, patients."""

    labels: Any
    outputs: Any
    patients: tuple[str, ...]

    @property
    def mcc(self) -> float:
        """The Matthews correlation."""
        return float(matthews_corrcoef(self.labels, self.outputs.argmax(axis=1)))


def score(folder: Path, data: Path, site: str) -> Scored:
    """Score the model in a folder on the test images of one site."""
    model, card = load_model(folder)
    images = _images(data / f"test-{site}.csv", card)
    outputs = predict(
        model,
        images,
        normalisation=Normalisation(card.mean, card.std),
        batch_size=128,
        device=pick_device("cpu"),
    )
    return Scored(images.labels.numpy(), outputs, images.patients)


def mean_interval(values: list[float]) -> dict[str, Any]:
    """Return the mean over trainings, and its 95 % interval by Student's t."""
    found = {"values": [round(v, 4) for v in values], "mean": round(float(np.mean(values)), 4)}
    if len(values) > 1 and np.std(values) > 0:
        low, high = stats.t.interval(
            0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
        )
        found |= {"low": round(float(low), 4), "high": round(float(high), 4)}
    return found


def bytes_up(run: Path) -> int:
    """Return what all sites sent in one round, in bytes: the last one's."""
    *_, last = plain_csv.DictReader((run / "history.csv").open())
    return int(last["bytes_up"])


def _images(manifest: Path, card: Any) -> LabelledImages:
    cfg = DataConfig(
        layout="manifest",
        manifest=str(manifest),
        classes=list(card.classes),
        image_size=card.image_size,
        channels=card.channels,
        resize=card.resize,
        cache_dir=str(manifest.parent / "cache"),
    )
    return load_images(read_manifest(cfg, seed=0), cfg)
