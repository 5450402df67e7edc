"""Dice of a 3-D U-Net on deformed brains: three sites with secure sums, beside pooled and local.

Each case is the ICBM 152 template, deformed, with other tones and noise, as NIfTI in the layout of
the Medical Segmentation Decathlon; grey and white matter are to be found. The sites' fingerprint
must be that of all training volumes. A seed that stands in `--output` is not run again.

    pip install --no-deps nilearn     # brings the template
    python -m primia_bench.segmentation.volumes --seeds 1 2 3 --output results/out.json

Source: Fonov et al. 2011, Unbiased average age-appropriate atlases (ICBM 152), as nilearn has it;
Gibson et al. 2018, NiftyNet, for the task.
"""

import argparse
import importlib.util
import json
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

from primia_bench.machine import describe_machine, publish, save
from primia_bench.segmentation.dice import figures
from primia_bench.topologies.arms import baselines, federated, words_of
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.data.dataset import deal_sites
from primia_flwr.data.fingerprint.facts import fingerprint
from primia_flwr.data.layouts.msd import volume_counts
from primia_flwr.runs.metadata import read_json

BOUND_DICE, BOUND_GAP = 0.85, 0.02
_SITE_BATCH, _POOLED_BATCH = 1, 2  # volumes a step at a site, in one place
_NAMES = ("t1", "gm", "wm")
_FILE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
_Volume = npt.NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--cases", type=int, default=30)
    parser.add_argument("--side", type=int, default=32, help="voxels along each side")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--local", action="store_true", help="each site by itself, too")
    parser.add_argument("--templates", type=Path, help="folder of the template's files")
    parser.add_argument("--words", nargs="*", default=[], help="more words of the experiment")
    parser.add_argument("--output", default="")
    args = parser.parse_args()
    template = read_template(args.templates or _of_nilearn(), args.side)
    asked = {key: getattr(args, key) for key in ("cases", "side", "rounds", "words")}
    asked["batch_sizes"] = {"site": _SITE_BATCH, "pooled": _POOLED_BATCH}
    result: dict[str, Any] = {
        "benchmark": "segmentation_volumes", "machine": describe_machine(), **asked,
        "runs": _known(args.output, asked),
    }  # fmt: skip
    for seed in sorted({*args.seeds} - {run["seed"] for run in result["runs"]}):
        with tempfile.TemporaryDirectory() as folder:
            result["runs"].append(_arms(Path(folder), template, seed, args))
        save(result, args.output)
    publish(result | _verdict(result["runs"]), args.output)


def _known(file: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the runs of a file that was measured with the same settings."""
    if not file or not Path(file).is_file():
        return []
    found = read_json(Path(file))
    same = all(found.get(key) == value for key, value in asked.items())
    return list(found["runs"]) if same else []


def read_template(folder: Path, side: int) -> dict[str, _Volume]:
    """Return the template, and how much of each voxel is grey and white matter, cubes of `side`."""
    found = {}
    for name in _NAMES:
        volume: Any = nibabel.load(folder / _FILE.format(name))
        grid = np.asarray(volume.dataobj, np.float32)
        most = max(grid.shape)
        cube = np.pad(grid, [((most - n) // 2, most - n - (most - n) // 2) for n in grid.shape])
        found[name] = zoom(cube / cube.max(), side / most, order=1)
    return found


def write_cases(root: Path, template: dict[str, _Volume], *, cases: int, seed: int) -> None:
    """Write deformed brains and their labels, and dataset.json."""
    entries = []
    for number in range(cases):
        image, labels = _deformed(template, np.random.default_rng([seed, number]))
        entry = {}
        for key, part, grid in (("image", "imagesTr", image), ("label", "labelsTr", labels)):
            entry[key] = f"{part}/brain_{number:03d}.nii.gz"
            (root / part).mkdir(parents=True, exist_ok=True)
            placed: Any = nibabel.Nifti1Image(grid, np.diag([5.8, 5.8, 5.8, 1.0]))  # type: ignore[no-untyped-call]
            nibabel.save(placed, root / entry[key])
        entries.append(entry)
    about = {"labels": {"0": "background", "1": "grey", "2": "white"}, "training": entries}
    (root / "dataset.json").write_text(json.dumps(about), encoding="utf-8")


def _deformed(
    template: dict[str, _Volume], rng: np.random.Generator
) -> tuple[_Volume, npt.NDArray[np.uint8]]:
    """Return a brain of other shape, tones and noise, and its labels."""
    shape = template["t1"].shape
    places = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij"))
    for axis in range(3):
        smooth = gaussian_filter(rng.normal(size=shape), shape[0] / 8)
        places[axis] += 0.05 * shape[0] * smooth / np.abs(smooth).max()
        middle = (shape[axis] - 1) / 2
        places[axis] = middle + (places[axis] - middle) * rng.uniform(0.9, 1.15)
    t1, grey, white = (map_coordinates(template[name], places, order=1) for name in _NAMES)
    labels = np.stack([1 - grey - white, grey, white]).argmax(axis=0).astype(np.uint8)
    bias = gaussian_filter(rng.normal(size=shape), shape[0] / 4)
    tones = t1 ** rng.uniform(0.8, 1.25) * (1 + 0.15 * bias / np.abs(bias).max())
    image = 1000 * tones * rng.uniform(0.8, 1.2) + rng.normal(scale=30, size=shape)
    return np.clip(image, 0, None).astype(np.float32), labels


def _arms(
    folder: Path, template: dict[str, _Volume], seed: int, args: argparse.Namespace
) -> dict[str, Any]:
    """Return the figures of each way to train, on the same held-out cases."""
    write_cases(folder / "brains", template, cases=args.cases, seed=seed)
    words = words_of(
        folder, 3, seed, "task=segmentation", "model=unet3d", "data=msd",
        f"data.root={folder / 'brains'}", f"data.frames={args.side}",
        f"data.image_size={args.side}", "data.volumes.fingerprint=true",
        "data.volumes.levels=[0,4095]", f"federation.rounds={args.rounds}",
        f"training.batch_size={_SITE_BATCH}", "training.learning_rate=3e-3",
        "training.optimizer_state=keep",
        "model.norm=group", "data.augmentation.affine.probability=0",
        "baselines=[]", *args.words,
    )  # fmt: skip
    found: dict[str, Any] = {"seed": seed}
    began = time.monotonic()
    experiment, made, facts = federated(folder / "run", words)
    seconds = {"seconds": round(time.monotonic() - began, 1)}
    found["secure"], found["test_cases"] = figures(made) | facts | seconds, len(made)
    found["same_fingerprint_as_pooled"] = _same_fingerprint(experiment, folder / "run")
    names = ["local", "centralised"] if args.local else ["centralised"]
    others = dict(baselines(experiment, names, batch_size=_POOLED_BATCH))
    found["pooled"] = figures(others.pop("centralised"))
    found |= {"local": [figures(one) for one in others.values()]} if args.local else {}
    return found


def _same_fingerprint(experiment: Experiment, run: Path) -> bool:
    """Say whether the sites' fingerprint is that of all their training volumes in one place."""
    sites = experiment.federation.sites
    dealt = deal_sites(
        experiment.data, seed=experiment.seed, num_sites=len(sites), site_names=sites
    )
    files = [file for n in range(len(sites)) for file in dealt.open(n).train.files]
    counts, classes = volume_counts(experiment.data, files)
    first, last = experiment.data.volumes.levels
    same: bool = read_json(run / "fingerprint.json") == fingerprint(counts, classes, (first, last))
    return same


def _verdict(runs: list[dict[str, Any]]) -> dict[str, Any]:
    dice = mean(run["secure"]["dice"] for run in runs)
    gap = mean(run["secure"]["dice"] - run["pooled"]["dice"] for run in runs)
    return {
        "dice": {"secure": dice, "bound": BOUND_DICE, "holds": dice >= BOUND_DICE},
        "secure_minus_pooled": {"mean": gap, "bound": -BOUND_GAP, "holds": gap >= -BOUND_GAP},
    }


def _of_nilearn() -> Path:
    found = importlib.util.find_spec("nilearn")
    if found is None or found.origin is None:
        raise SystemExit(
            "nilearn is not installed; expected the ICBM 152 template that it brings: "
            "pip install --no-deps nilearn, or --templates FOLDER"
        )
    return Path(found.origin).parent / "datasets" / "data"


if __name__ == "__main__":
    main()
