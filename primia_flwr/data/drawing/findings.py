"""Synthetic radiographs with several findings an image, of which some labels are unknown.

A patient has each of five findings or not, and some go together: effusion with an enlarged heart,
consolidation with effusion. They are drawn into the lungs of the radiographs of `radiograph`.
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from primia_flwr.config.experiment.data import SyntheticConfig
from primia_flwr.data.drawing.radiograph import Plane, draw_with, markings, soft_edge, texture
from primia_flwr.data.reading.common import note_synthetic
from primia_flwr.data.seeding import generator
from primia_flwr.storage import plain_csv

FINDINGS = ("cardiomegaly", "consolidation", "effusion", "interstitial", "nodule")
TABLE = "labels.csv"
_UNKNOWN = 0.1
"""Share of the labels that nobody knows."""

_Rng = np.random.Generator


def write_drawn(cfg: SyntheticConfig, folder: Path) -> None:
    """Write PNG files and the table of their labels; two images at most are one study."""
    note_synthetic(folder)
    text = io.StringIO(newline="")
    writer = plain_csv.writer(text)
    writer.writerow(("path", "patient", "study", *FINDINGS))
    for patient in range(cfg.patients):
        count = generator("findings", cfg.seed, "count", patient).integers(1, 4)
        for number in range(1, int(count) + 1):
            name = f"patient{patient:05d}_{number}.png"
            pixels, labels = _draw(cfg, patient, number)
            Image.fromarray(pixels).save(folder / name, compress_level=1)
            study = (number + 1) // 2
            writer.writerow((name, f"patient{patient:05d}", study, *labels))
    (folder / TABLE).write_text(text.getvalue(), encoding="utf-8", newline="")


def _draw(cfg: SyntheticConfig, patient: int, number: int) -> tuple[np.ndarray, list[str]]:
    """Draw an image, and return its labels as cells: 1, 0 or nothing."""
    own = generator("findings", cfg.seed, "patient", patient)
    image = generator("findings", cfg.seed, "image", patient, number)
    shown = _present(own)

    def added(x: Plane, y: Plane) -> Plane:
        density = markings(own)
        for name, draw in _DRAWN.items():
            one = draw(x, y, own)  # of every finding, so that each has its own draws
            density = density + shown[name] * np.float32(cfg.severity) * one
        return np.asarray(density, np.float32)

    pixels, _ = draw_with(added, own, image)
    known = generator("findings", cfg.seed, "known", patient, number).random(len(FINDINGS))
    return pixels, [
        str(int(shown[name])) if share >= _UNKNOWN else ""
        for name, share in zip(FINDINGS, known, strict=True)
    ]


def _present(rng: _Rng) -> dict[str, bool]:
    """Draw which findings a patient has."""
    u = rng.random(5)
    heart = bool(u[0] < 0.3)
    effusion = bool(u[1] < (0.55 if heart else 0.2))
    cloud = bool(u[2] < (0.5 if effusion else 0.2))
    return {
        "cardiomegaly": heart,
        "consolidation": cloud,
        "effusion": effusion,
        "interstitial": bool(u[3] < 0.35),
        "nodule": bool(u[4] < 0.25),
    }


def _cardiomegaly(x: Plane, y: Plane, rng: _Rng) -> Plane:
    """Cover lung beside the heart."""
    width, height = rng.uniform(0.50, 0.60), rng.uniform(0.30, 0.36)
    heart = 1 - ((x - 0.12) / width) ** 2 - ((y - 0.26) / height) ** 2
    return np.asarray(soft_edge(heart, 8) * np.float32(rng.uniform(0.22, 0.34)))


def _consolidation(x: Plane, y: Plane, rng: _Rng) -> Plane:
    """Put one irregular cloud into one lung."""
    at_x = rng.choice((-1, 1)) * rng.uniform(0.30, 0.52)
    at_y, radius = rng.uniform(-0.45, 0.15), rng.uniform(0.15, 0.24)
    distance = ((x - at_x) ** 2 + (y - at_y) ** 2) / radius**2
    cloud = np.exp(-(distance**1.5) * np.exp(0.5 * texture(rng, 2, 6)))
    return np.asarray(cloud * np.float32(rng.uniform(0.30, 0.50)), np.float32)


def _effusion(x: Plane, y: Plane, rng: _Rng) -> Plane:
    """Fill the lower part of one lung, higher at its outer edge."""
    side = rng.choice((-1, 1))
    level = rng.uniform(0.10, 0.26)
    fluid = soft_edge(y + 0.35 * (side * x - 0.4) - level, 26) * (side * x > 0)
    return np.asarray(fluid * np.float32(rng.uniform(0.26, 0.40)), np.float32)


def _interstitial(x: Plane, y: Plane, rng: _Rng) -> Plane:
    """Spread a fine net of zero mean over both lungs."""
    focus = np.exp(-(((y - rng.uniform(-0.2, 0.3)) / rng.uniform(0.35, 0.9)) ** 2))
    net = texture(rng, 7, 16) * (0.5 + focus)
    return np.asarray(net * np.float32(rng.uniform(0.05, 0.09)), np.float32)


def _nodule(x: Plane, y: Plane, rng: _Rng) -> Plane:
    """Put one round spot with a sharp edge into one lung."""
    at_x = rng.choice((-1, 1)) * rng.uniform(0.30, 0.50)
    at_y, radius = rng.uniform(-0.45, 0.05), rng.uniform(0.07, 0.10)
    spot = 1 - ((x - at_x) ** 2 + (y - at_y) ** 2) / radius**2
    return np.asarray(soft_edge(spot, 6) * np.float32(rng.uniform(0.35, 0.55)))


_DRAWN: dict[str, Callable[[Plane, Plane, _Rng], Plane]] = {
    "cardiomegaly": _cardiomegaly,
    "consolidation": _consolidation,
    "effusion": _effusion,
    "interstitial": _interstitial,
    "nodule": _nodule,
}
