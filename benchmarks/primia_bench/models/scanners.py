"""Synthetic radiographs of three sites, each with a scanner of its own, as a manifest.

The first scanner gives a picture as it was drawn, the second a brighter and flatter one, the third
a darker, blurred and noisy one. Patients are dealt to the sites in turn, so that only the scanners
differ; a share of each site's patients is its test set.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from primia_flwr.config.experiment.data import DataConfig, SyntheticConfig
from primia_flwr.data.layouts.pneumonia import read_pneumonia
from primia_flwr.data.layouts.synthetic import write_synthetic
from primia_flwr.storage import plain_csv

SITES = ("site-1", "site-2", "site-3")
_COLUMNS = ("path", "label", "patient", "site", "split")
_Pixels = Any


def _plain(pixels: _Pixels, _: np.random.Generator) -> _Pixels:
    return pixels


def _flat(pixels: _Pixels, _: np.random.Generator) -> _Pixels:
    return 90 + 0.55 * 255 * (pixels / 255) ** 0.5


def _dark(pixels: _Pixels, rng: np.random.Generator) -> _Pixels:
    soft = Image.fromarray(pixels.astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.2))
    return 255 * (np.asarray(soft) / 255) ** 2.2 + rng.normal(0, 12, pixels.shape)


_SCANNERS: tuple[Callable[[_Pixels, np.random.Generator], _Pixels], ...] = (_plain, _flat, _dark)


def write_sites(
    folder: Path, *, patients: int, seed: int, shifted: bool = True, test: float = 0.4
) -> Path:
    """Write the images and `all.csv`, `test-<site>.csv`; return the folder.

    Parameters
    ----------
    folder : Path
        New, or of an earlier call with the same values.
    patients : int
        Of all sites.
    seed : int
        Of the patients.
    shifted : bool
        False: the first scanner at every site.
    test : float
        Share of each site's patients that are its test set.
    """
    drawn = write_synthetic(SyntheticConfig(patients=patients, seed=seed), folder / "drawn")
    found = read_pneumonia(DataConfig(layout="pneumonia", root=str(drawn)), seed=0)
    order = {name: n for n, name in enumerate(sorted({s.patient for s in found.samples}))}
    rng, rows = np.random.default_rng(seed), list[tuple[str, ...]]()
    shuffled = rng.permutation(len(order))
    for sample in found.samples:
        place = int(shuffled[order[sample.patient]])
        site, held = place % len(SITES), place // len(SITES) < test * len(order) / len(SITES)
        path = Path("images") / SITES[site] / sample.path
        pixels = np.asarray(Image.open(drawn / sample.path), np.float64)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        seen = _SCANNERS[site if shifted else 0](pixels, rng).clip(0, 255).astype(np.uint8)
        Image.fromarray(seen).save(folder / path, compress_level=1)
        label = found.classes[sample.label]
        split = "test" if held else "train"
        rows.append((str(path), label, sample.patient, SITES[site], split))
    _write(folder / "all.csv", rows)
    for name in SITES:
        _write(
            folder / f"test-{name}.csv",
            [row for row in rows if row[3] == name and row[4] == "test"],
        )
    return folder


def _write(path: Path, rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = plain_csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(rows)
