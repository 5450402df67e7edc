from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.manifest import Manifest, Sample

WriteImage = Callable[..., Path]
MakeManifest = Callable[..., Manifest]


@pytest.fixture
def write_image() -> WriteImage:
    """Write a small grey image with its own random content; the format follows the name."""

    def write(path: Path, *, seed: int | None = None, size: tuple[int, int] = (20, 24)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(abs(hash(str(path))) if seed is None else seed)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(path)
        return path

    return write


@pytest.fixture
def make_manifest() -> MakeManifest:
    """Make a manifest from a list of (patient, label, images), without files."""

    def make(patients: list[tuple[str, int, int]], *, classes: int = 3) -> Manifest:
        samples = [
            Sample(f"{patient}/{number}.png", label, patient)
            for patient, label, count in patients
            for number in range(count)
        ]
        names = tuple(f"class{label}" for label in range(classes))
        return Manifest(Path("/nowhere"), names, tuple(samples))

    return make


@pytest.fixture
def class_folders(tmp_path: Path, write_image: WriteImage) -> DataConfig:
    """Twelve patients of two classes, two images each, as folder/<class>/<patient>/<image>."""
    for label in ("ill", "well"):
        for patient in range(6):
            for number in range(2):
                write_image(tmp_path / "scans" / label / f"{label}{patient}" / f"{number}.png")
    return DataConfig(
        layout="folder",
        root=str(tmp_path / "scans"),
        cache_dir=str(tmp_path / "cache"),
        image_size=16,
    )
