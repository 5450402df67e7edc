"""What a coordinator that sends a crafted model gets out of the opened sum, on real radiographs.

The same simulation as `primia_bench.attacks.inversion` has it (ResNet-18 of random weights with
group norm, 64 x 64, three sites, 4 steps of 8 images a round, secure sum), with two traps: in the
last norm layer, and one that a site's check of the arriving model lets pass. Beside them the honest
model and the search on random numbers. Images are sought in as many sums as asked for; how near a
sum is to one image's gradient is measured in all rounds, those in which nobody gets through the
trap too. No image and no file name of the data is written.

    python -m primia_bench.attacks.crafted_model --data ../shared/data/chest_xray \
        --work outputs/crafted \
        --output benchmarks/results/crafted_model.json images=3 iterations=400

What is finished in `--work` (the run, an inverted sum) is not done again.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from primia_bench.attacks.inversion import COMMON, RUNS, primia
from primia_bench.machine import describe_machine, publish
from primia_flwr.attacks.crafted.runner import CraftedAttackRunner
from primia_flwr.attacks.inversion.runner import AttackSettings
from primia_flwr.config.stored import read_config
from primia_flwr.models.saved import load_model
from primia_flwr.runs.metadata import read_json
from primia_flwr.training.normalisation import Normalisation

ROUNDS = 16  # each has its own trap, which about one image in 96 gets through
_OTHER = ("federation.rounds=", "debug.record_received=")
TARGET = "crafted_model"


def simulate(data: Path, work: Path) -> Path:
    """Run the simulation, unless it is finished."""
    folder = work / "secure"
    if not (folder / "model.json").is_file():
        primia(
            "train", *[option for option in COMMON if not option.startswith(_OTHER)],
            *RUNS["secure"], f"federation.rounds={ROUNDS}", "model.norm=group",
            f"data.root={data}", f"data.cache_dir={work / 'cache'}", f"output_dir={folder}",
        )  # fmt: skip
    return folder


def attack(run_dir: Path, kind: str, options: list[str], *, control: bool) -> dict[str, Any]:
    """Attack the run; return what `attack.json` says."""
    folder = run_dir / "attack" / f"{TARGET}-{kind}"
    primia(
        "attack", f"run={run_dir}", f"target={TARGET}", f"crafted={kind}", f"output={folder}",
        f"control={str(control).lower()}", "quiet=true", *options,
    )  # fmt: skip
    return read_json(folder / "attack.json")


def every_sum(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    """Return the row of the crafted sum of every round, without seeking an image in it."""
    model, card = load_model(run_dir)
    campaign = CraftedAttackRunner(
        run_dir,
        read_config(run_dir / "config.yaml"),
        model,
        Normalisation(card.mean, card.std),
        AttackSettings(TARGET, crafted=kind),
        run_dir / "attack",
        torch.device("cpu"),
    )
    campaign.jobs(ROUNDS, control=False)
    return campaign.sums()


def summarise(result: dict[str, Any], arm: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of one arm: its sums, and what was rebuilt of some of them."""
    alone = [row["best_cosine"] for row in rows if row["with_gradient"] == 1]
    return {
        "sums": [
            {key: row[key] for key in ("server_round", "images", "with_gradient")}
            | {"best_cosine": round(row["best_cosine"], 4)}
            for row in rows
        ],
        "sums_of_one_image": len(alone),
        "least_cosine_where_one_image_got_through": min(alone, default=None),
        "refused_by_the_check": rows[0]["refused"] if rows else None,
        "rebuilt": result["arms"][arm],
        "ssim": [row["ssim"] for row in result["images"] if row["arm"] == arm],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the radiographs")
    parser.add_argument("--work", type=Path, required=True, help="folder of run and attacks")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    parser.add_argument("options", nargs="*", help="of primia attack, e.g. iterations=400")
    given = parser.parse_args()
    run_dir = simulate(given.data.resolve(), given.work.resolve())
    norm = attack(run_dir, "norm", given.options, control=True)
    bounds = attack(run_dir, "within_bounds", given.options, control=False)
    honest = [row for row in norm["sums"] if row["arm"] == "honest_model"]
    result = {
        "benchmark": "crafted_model",
        "model": "resnet18, random weights, norm=group, 64 x 64; 3 sites, 4 steps of 8 images",
        "settings": norm["settings"],
        "arms": {
            "honest model": summarise(norm, "honest_model", honest),
            "crafted": summarise(norm, TARGET, every_sum(run_dir, "norm")),
            "crafted within bounds": summarise(bounds, TARGET, every_sum(run_dir, "within_bounds")),
            "random numbers": summarise(norm, "noise", []),
        },
        "tests": norm["tests"],
        "machine": describe_machine(),
    }
    publish(result, given.output)


if __name__ == "__main__":
    main()
