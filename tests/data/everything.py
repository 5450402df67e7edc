"""All images of a configuration, whatever site they are dealt to."""

from __future__ import annotations

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.dataset import LabelledImages, load_images
from primia_flwr.data.reading.any_layout import in_split, read_manifest


def load_all(cfg: DataConfig, *, seed: int) -> LabelledImages:
    """Load every image that `data.split` selects."""
    return load_images(in_split(read_manifest(cfg, seed=seed), cfg.split), cfg)
