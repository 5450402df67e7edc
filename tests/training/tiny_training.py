"""Images and models so small that numbers can be derived by hand."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.training import (
    EarlyStoppingConfig,
    ModelConfig,
    SiteStoppingConfig,
    TrainingConfig,
)
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.models import build_model
from primia_flwr.training.normalisation import Normalisation

# Leaves the byte v as the float v: 255 * std = 1.
IDENTITY = Normalisation(mean=(0.0,), std=(1 / 255,))
HALF = Normalisation(mean=(0.5,), std=(0.25,))

PLAIN = TrainingConfig(
    optimizer="sgd",
    learning_rate=0.5,
    min_learning_rate=0.5,
    schedule="constant",
    warmup=0.0,
    momentum=0.0,
    weight_decay=0.0,
    batch_size=8,
    device="cpu",
)


def labelled(images: Tensor, labels: Tensor, classes: int = 2) -> LabelledImages:
    count = len(labels)
    return LabelledImages(
        images=images,
        labels=labels,
        files=tuple(f"{n}.png" for n in range(count)),
        patients=tuple(f"p{n}" for n in range(count)),
        classes=tuple(f"c{n}" for n in range(classes)),
    )


def random_images(count: int, *, size: int = 16, seed: int = 0, classes: int = 2) -> LabelledImages:
    """Class k is brighter by 60 k in a corner: learnable in a few steps."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    images = torch.randint(0, 120, (count, 1, size, size), generator=generator)
    images[:, :, : size // 2, : size // 2] += 60 * labels.view(-1, 1, 1, 1)
    return labelled(images.to(torch.uint8), labels, classes)


def small_net(seed: int = 0, classes: int = 2) -> nn.Module:
    return build_model(ModelConfig(name="simpleconv"), outputs=classes, channels=1, seed=seed)


def with_patience(cfg: TrainingConfig, patience: int, **values: object) -> TrainingConfig:
    site = SiteStoppingConfig(patience=patience, **values)  # type: ignore[arg-type]
    return replace(cfg, early_stopping=EarlyStoppingConfig(site=site))


class OnePixel(nn.Module):
    """Two logits (0, w x + b) of one pixel x: logistic regression, all of it by hand."""

    def __init__(self, weight: float = 0.0, bias: float = 0.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[weight]]))
        self.b = nn.Parameter(torch.tensor([bias]))

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1)[:, :1] * self.w + self.b
        return torch.cat([torch.zeros_like(score), score], dim=1)


def one_pixel(pixels: list[int], labels: list[int]) -> LabelledImages:
    images = torch.tensor(pixels, dtype=torch.uint8).view(-1, 1, 1, 1)
    return labelled(images, torch.tensor(labels))
