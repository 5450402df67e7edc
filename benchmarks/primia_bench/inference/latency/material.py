"""The model that is served, the images that are shown, and the plain model's logits.

The weights are random, and every BatchNorm has the statistics of 32 random images, as after
training, so that activations and logits are of size 1. All is seeded and always the same.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from primia_bench.inference.crypten_stock import model_and_image
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.inference.lowering.bounds import measure, needed_bits
from primia_flwr.inference.lowering.lowering import lower
from primia_flwr.models import ModelCard, save_model

IMAGES = 4  # one that warms up, and three


def make(folder: Path, name: str, sizes: Sequence[int]) -> dict[int, int]:
    """Save model, images and logits in a folder for each size; return the ring that each needs.

    Returns
    -------
    dict of int to int
        By size, the most bits that a comparison needs, with 4 to spare.
    """
    torch.set_num_threads(1)
    return {size: _make(folder / str(size), name, size) for size in sizes}


def _make(folder: Path, name: str, size: int) -> int:
    model, _ = model_and_image(argparse.Namespace(model=name, size=size))
    card = ModelCard(
        model=ModelConfig(name=name),
        classes=("bacterial", "normal", "viral"),
        channels=1,
        image_size=size,
        resize="squash",
        mean=(0.5,),
        std=(0.25,),
        config_hash="0" * 16,
        round=1,
        synthetic=True,
    )
    save_model(folder, model, card)
    images = torch.randn(IMAGES, 1, size, size, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        logits = torch.cat([model(image[None]) for image in images])
    np.save(folder / "images.npy", images.numpy())
    np.save(folder / "logits.npy", logits.double().numpy())
    plan = lower(model, (1, 1, size, size)).plan
    return max(needed_bits(measure(model, [image[None] for image in images]), plan))
