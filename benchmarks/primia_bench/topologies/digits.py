"""The 1,797 handwritten digits that come with scikit-learn, as files and a manifest."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from primia_flwr.storage.atomic import write_atomic

CLASSES = [f"digit-{n}" for n in range(10)]


def write_digits(folder: Path) -> Path:
    """Write 8 x 8 grey PNG files, each of a patient of its own; return the manifest.

    Source: Alpaydin, Kaynak 1998, Optical Recognition of Handwritten Digits.
    """
    manifest = folder / "manifest.csv"
    if manifest.exists():
        return manifest
    (folder / "images").mkdir(parents=True, exist_ok=True)
    found = load_digits()
    lines = ["path,label,patient"]
    for number, (pixels, label) in enumerate(zip(found.images, found.target, strict=True)):
        name = f"images/{number:04d}.png"
        Image.fromarray((pixels * 255 / 16).round().astype(np.uint8)).save(folder / name)
        lines.append(f"{name},{CLASSES[label]},p{number:04d}")
    write_atomic(manifest, "\n".join(lines) + "\n")
    return manifest


def overrides(folder: Path) -> list[str]:
    """Return the overrides of a run on the digits: a small model, a few seconds a round."""
    return [
        "data=manifest",
        f"data.manifest={write_digits(folder)}",
        f"data.cache_dir={folder / 'cache'}",
        f"data.classes=[{','.join(CLASSES)}]",
        "data.image_size=16",
        "data.channels=1",
        "data.workers=1",
        "model=simpleconv",
        "training.batch_size=16",
        "training.threads=1",
        "training.device=cpu",
        "tracking=disabled",
        "report.saliency=0",
    ]
