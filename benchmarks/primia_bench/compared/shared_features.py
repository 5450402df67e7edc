"""Features of radiographs by a public backbone, at two hospitals that share no patient.

EfficientNet-Lite0 with ImageNet weights gives 1,280 features; a public rotation, drawn from a fixed
seed, is cut to fewer. No patient has taught either.
"""

import tempfile
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse
from primia_flwr.data.dataset import LabelledImages, deal_sites, load_test
from primia_flwr.models import build_model

TEST_IMAGES = 800
_BACKBONE = ("model=efficientnet_lite0", "model.weights=imagenet")
Set = tuple[Tensor, Tensor]  # features (N, F) float32, labels (N,) int64


@dataclass(frozen=True)
class Features:
    """What two hospitals hold, and a test set of other patients."""

    hospitals: tuple[Set, Set]
    test: Set
    classes: tuple[str, ...]
    seconds_of_the_backbone: float

    @property
    def pooled(self) -> Set:
        """Both hospitals' features and labels in one place."""
        features, labels = zip(*self.hospitals, strict=True)
        return torch.cat(features), torch.cat(labels)


def read_features(words: tuple[str, ...], each: int, width: int) -> Features:
    """Return features of `each` images a hospital; the hospitals share no patient."""
    with tempfile.TemporaryDirectory(prefix="primia-shared-") as folder:
        choices = [*words, *_BACKBONE, f"data.cache_dir={folder}"]
        experiment = parse(Experiment, compose("config", choices))
        dealt = deal_sites(experiment.data, seed=0, num_sites=2)
        sites = [_some(dealt.open(index).train, each) for index in (0, 1)]
        test = _some(load_test(experiment.data, seed=0), TEST_IMAGES)
        backbone = build_model(experiment.model, outputs=1, channels=1, seed=0).eval()
        backbone.classifier = nn.Identity()
        began = time.perf_counter()
        first, second = (_features(backbone, site, width) for site in sites)
        seconds = time.perf_counter() - began
        return Features((first, second), _features(backbone, test, width), test.classes, seconds)


def _some(found: LabelledImages, count: int) -> LabelledImages:
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))
    return found.select(order[:count])


@torch.no_grad()
def _features(backbone: nn.Module, found: LabelledImages, width: int) -> Set:
    parts = [backbone(part.float() / 127.5 - 1) for part in torch.split(found.images, 50)]
    features = torch.cat(parts)
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(
        torch.randn(features.shape[1], features.shape[1], generator=generator)
    )
    return features @ rotation.Q[:, :width], found.labels.clone()
