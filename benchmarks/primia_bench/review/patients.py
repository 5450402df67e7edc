"""The images of the review: synthetic, written once, and dealt to sites by three manifests."""

import io
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from primia_flwr.config.experiment.data import SyntheticConfig
from primia_flwr.data.layouts.synthetic import write_synthetic
from primia_flwr.storage import plain_csv
from primia_flwr.storage.atomic import write_atomic

SPLITS = ("iid", "dirichlet 0.3", "one small site of low resolution")
FLIPPED = "one site with flipped labels"
TEST, LOW_SIDE = 0.25, 16
Row = tuple[str, str, str, str, str]  # path, label, patient, site, split


def write_patients(folder: Path, *, patients: int, seed: int) -> Path:
    """Write the images, a second time at low resolution; return their root."""
    root = write_synthetic(SyntheticConfig(patients=patients, seed=seed, severity=1.2), folder)
    low = root / "low"
    for path in sorted(root.glob("[NP]*/*.png")):
        target = low / path.relative_to(root)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(path) as image:
                image.resize((LOW_SIDE, LOW_SIDE)).resize(image.size).save(target)
    return root


def write_manifest(root: Path, split: str, *, sites: int, seed: int) -> Path:
    """Deal the patients of `root` to the sites, a quarter to the test set; return the manifest.

    The test patients are the same in every split of a seed.
    """
    images = _by_patient(root)
    rng = np.random.default_rng([seed, 0])
    order = [sorted(images)[i] for i in rng.permutation(len(images))]
    held = round(TEST * len(order))
    rows = [row for name in order[:held] for row in _rows(images[name], name, "", "test")]
    labels = {name: images[name][0][1] for name in order[held:]}
    for name, site in _dealt(split, labels, sites, np.random.default_rng([seed, 1])).items():
        rows += _changed(_rows(images[name], name, f"site-{site + 1}", ""), split, sites)
    path = root / f"{split.replace(' ', '-')}-{sites}-{seed}.csv"
    text = io.StringIO(newline="")
    plain_csv.writer(text).writerows([("path", "label", "patient", "site", "split"), *rows])
    write_atomic(path, text.getvalue())
    return path


def _by_patient(root: Path) -> dict[str, list[tuple[str, str]]]:
    """Return the images of every patient: path below the root, and class."""
    from primia_flwr.data.layouts.pneumonia import parse_name

    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path in sorted(root.glob("[NP]*/*.png")):
        label, patient = parse_name(path.name)
        found[patient].append((str(path.relative_to(root)), label))
    return found


def _rows(images: list[tuple[str, str]], patient: str, site: str, split: str) -> list[Row]:
    return [(path, label, patient, site, split) for path, label in images]


def _dealt(
    split: str, labels: dict[str, str], sites: int, rng: np.random.Generator
) -> dict[str, int]:
    """Return the site of every patient; each has at least two of every class."""
    dealt: dict[str, int] = {}
    for label in sorted(set(labels.values())):
        names = [name for name, of in labels.items() if of == label]
        shares = _shares(split, sites, rng)
        first = np.repeat(np.arange(sites), 2)[: len(names)]
        rest = rng.choice(sites, size=len(names) - len(first), p=shares)
        dealt |= dict(zip(names, (int(s) for s in (*first, *rest)), strict=True))
    return dealt


def _shares(split: str, sites: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    if split == SPLITS[1]:
        return rng.dirichlet(np.full(sites, 0.3))
    sizes = np.ones(sites)
    if split == SPLITS[2]:
        sizes[-1] = 0.5
    shares: npt.NDArray[np.float64] = sizes / sizes.sum()
    return shares


def _changed(rows: list[Row], split: str, sites: int) -> list[Row]:
    """Return rows as their site has them: of low resolution, or with another label."""
    if split == SPLITS[2]:
        last = f"site-{sites}"
        return [
            (f"low/{p}", c, n, s, t) if s == last else (p, c, n, s, t) for p, c, n, s, t in rows
        ]
    if split == FLIPPED:
        turned = {"normal": "viral", "viral": "bacterial", "bacterial": "normal"}
        return [(p, turned[c] if s == "site-1" else c, n, s, t) for p, c, n, s, t in rows]
    return rows
