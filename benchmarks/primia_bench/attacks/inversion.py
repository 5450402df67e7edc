"""What gradient inversion gets out of what a coordinator receives, on the real radiographs.

ResNet-18 with random weights (group norm) at 64 x 64, three sites; each arm is a real, recorded
simulation, its coordinator honest, and a real `primia attack` on the bytes in it
(`benchmarks/primia_bench/attacks/crafted_model.py` has the coordinator that is not). The control of
every arm is the same search on random numbers, compared with the same originals: among many
originals one is found that is like anything. A reconstruction is also compared with strangers: an
update may tell what radiographs look like and nothing of its patients. No image and no file name of
the data is written.

    python -m primia_bench.attacks.inversion --data ../shared/data/chest_xray \
        --work outputs/inversion \
        --output benchmarks/results/inversion.json

What is finished in `--work` (a run, an inverted update) is not done again. With `--norm batch` the
same with batch norm in training mode, once with unknown, once with known batch statistics; sites
refuse to train it on batches of one image, so the arms of one image are left out.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from statsmodels.stats.multitest import multipletests

from primia_bench.machine import describe_machine, publish
from primia_flwr.attacks.inversion.scoring.significance import anova
from primia_flwr.runs.metadata import read_json

CONTROL = "noise"
_PLAIN, _SECURE = "aggregation=plain", "aggregation=secure"
# plain SGD: (w0 - w1) / eta is the gradient, to the rounding of float32
COMMON = [
    "debug.record_received=true",
    "data.layout=pneumonia",
    "data.classes=[bacterial,normal,viral]",
    "data.image_size=64",
    "model=resnet18",
    "training=sgd",
    "training.learning_rate=0.01",
    "training.momentum=0",
    "training.weight_decay=0",
    "training.schedule=constant",
    "training.warmup=0",
    "training.threads=1",
    "federation.rounds=2",
    "tracking=disabled",
    "quiet=true",
]


@dataclass(frozen=True)
class Arm:
    """One arm: which run it is of, what is attacked, how many images of an update."""

    run: str
    target: str
    per_update: int
    meaning: str


RUNS: dict[str, list[str]] = {
    "one-image": [_PLAIN, "training.batch_size=1", "training.sync_every_n_batches=1"],
    "batch": [_PLAIN, "training.batch_size=3", "training.sync_every_n_batches=1"],
    "plain": [_PLAIN, "training.batch_size=8", "training.sync_every_n_batches=4"],
    "secure": [_SECURE, "training.batch_size=8", "training.sync_every_n_batches=4"],
    # as experiment=pneumonia trains, but without augmentation, in the attacker's favour
    "ordinary": [
        _SECURE,
        "training.batch_size=16",
        "training.sync_every_n_batches=19",
        "training.optimizer=adamw",
        "training.learning_rate=1e-3",
        "training.weight_decay=0.05",
        "training.label_smoothing=0.1",
    ],
    "secure-one-image": [_SECURE, "training.batch_size=1", "training.sync_every_n_batches=1"],
    "local": [
        _PLAIN,
        "federation.sites=[site-1]",
        "federation.min_sites=1",
        "training.batch_size=8",
        "training.sync_every_n_batches=4",
    ],
}
ARMS: dict[str, Arm] = {
    "single image": Arm("one-image", "single_image", 1, "one site's SGD step on one image"),
    "batch": Arm("batch", "batch", 3, "one site's SGD step on 3 images"),
    "received update": Arm("plain", "received_update", 3, "one site's 4 steps of 8 images"),
    "masked update": Arm("secure", "masked_update", 3, "the same update, masked"),
    "secure sum": Arm(
        "secure", "secure_sum", 3, "the opened sum of 3 sites' 4 steps of 8 images, honest model"
    ),
    "secure sum, ordinary round": Arm(
        "ordinary",
        "secure_sum",
        3,
        "the opened sum of 3 sites' 19 AdamW steps of 16 images, honest model",
    ),
    "secure sum, one image a site": Arm(
        "secure-one-image",
        "secure_sum",
        3,
        "the opened sum of 3 sites' steps on one image each, honest model",
    ),
    "local model": Arm(
        "local", "local_model", 3, "one site's model after 2 rounds of 4 steps, less the first one"
    ),
}


def simulate(data: Path, work: Path, name: str, norm: str) -> Path:
    """Run and record a simulation, unless it is finished."""
    folder = work / f"{name}-{norm}"
    if not (folder / "model.json").is_file():
        primia(
            "train", *COMMON, *RUNS[name], f"model.norm={norm}", f"data.root={data}",
            f"data.cache_dir={work / 'cache'}", f"output_dir={folder}",
        )  # fmt: skip
    return folder


def attack(run_dir: Path, arm: Arm, options: list[str], *, batch_norm: str) -> dict[str, Any]:
    """Attack a run; return what `attack.json` says."""
    folder = run_dir / "attack" / f"{arm.target}-{batch_norm}"
    primia(
        "attack", f"run={run_dir}", f"target={arm.target}", f"per_update={arm.per_update}",
        f"batch_norm={batch_norm}", f"output={folder}", "quiet=true", *options,
    )  # fmt: skip
    return read_json(folder / "attack.json")


def summarise(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return each arm's figures with the test against its control, and the tests of all arms."""
    figures: dict[str, Any] = {}
    for name, result in found.items():
        arm = ARMS[name.partition(" (")[0]]
        figures[name] = {
            "meaning": arm.meaning,
            "images_an_update": arm.per_update,
            "attacked": result["arms"][arm.target],
            "control": result["arms"][CONTROL],
            "against_control": result["tests"]["against_control"][0],
            "cosine_distances": [
                round(row["cosine_distance"], 4)
                for row in result["objectives"]
                if row["arm"] == arm.target
            ],
        }
    p_values = [arm["against_control"]["p_value"] for arm in figures.values()]
    for arm, p in zip(figures.values(), multipletests(p_values, method="holm")[1], strict=True):
        arm["against_control"]["p_holm"] = float(p)
    ssim = {name: _ssim(result) for name, result in found.items()}
    return {"arms": figures, "anova_of_the_arms": asdict(anova(ssim)) if len(ssim) > 1 else None}


def _ssim(result: dict[str, Any]) -> list[float]:
    """Return the SSIM of what was attacked, without the control's."""
    return [row["ssim"] for row in result["images"] if row["arm"] != CONTROL]


def primia(*arguments: str) -> None:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "primia_flwr.cli.main", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the radiographs")
    parser.add_argument("--work", type=Path, required=True, help="folder of runs and attacks")
    parser.add_argument("--norm", choices=("group", "batch"), default="group")
    parser.add_argument("--arms", nargs="*", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    parser.add_argument("options", nargs="*", help="of primia attack, e.g. iterations=2000")
    given = parser.parse_args()
    data, work = given.data.resolve(), given.work.resolve()
    found, settings = {}, {}
    one_image = {"one-image", "secure-one-image"} if given.norm == "batch" else set()
    for name in (name for name in given.arms if ARMS[name].run not in one_image):
        run_dir = simulate(data, work, ARMS[name].run, given.norm)
        for known in ("unknown", "known") if given.norm == "batch" else ("unknown",):
            title = f"{name} (batch statistics {known})" if given.norm == "batch" else name
            found[title] = attack(run_dir, ARMS[name], given.options, batch_norm=known)
            settings = found[title]["settings"]
            print(json.dumps({title: found[title]["arms"]}), file=sys.stderr, flush=True)
    result = {
        "benchmark": "inversion",
        "model": f"resnet18, random weights, norm={given.norm}, 64 x 64, in training mode",
        "search": {k: v for k, v in settings.items() if k not in ("batch_norm", "per_update")},
        **summarise(found),
        "machine": describe_machine(),
    }
    publish(result, given.output)


if __name__ == "__main__":
    main()
