"""Dice of a U-Net: secure federated, beside pooled, local, relayed and private training.

Lung and consolidation on synthetic radiographs, each seed with images and a split of its own. A
federated arm is the real app with secure aggregation, over sites in memory; pooled and local
training have larger batches. With 4 and 16 sites it is the table of Sheller et al.
2020: `cyclic` hands one model round and round (CIIL), `single` from site to site once (IIL), all
with as many image passes.

    python -m primia_bench.segmentation.dice --seeds 1 2 3 --output out.json
    python -m primia_bench.segmentation.dice --sites 4 16 \
        --arms federated cyclic single local pooled
    python -m primia_bench.segmentation.dice --arms private

Source: Sheller et al. 2020, Federated learning in medicine (institutions train a U-Net together).
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

from primia_bench.machine import describe_machine, publish, save
from primia_bench.topologies.arms import baselines, federated, gap, size_of, words_of
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.tasks.masks.evidence import Judged, mask_statistic, strata_of
from primia_flwr.tasks.masks.scores import MaskScores, score_masks
from primia_flwr.tasks.predictions import Predictions

BOUND = 0.01
_POOLED_BATCH = 8  # images a step in one place
_ROUNDS = 80
_FEDERATED = {
    "federated": ("aggregation=secure",),
    "cyclic": ("strategy=cyclic",),
    "single": ("strategy=single", "federation.rounds=1"),
    "private": ("privacy=dp_sgd_shared", "privacy.epsilon=8"),
}
_BASELINES = {"local": "local", "pooled": "centralised"}


def main() -> None:
    """Train the arms one after the other; what is done stands in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arms", nargs="+", choices=(*_FEDERATED, *_BASELINES),
                        default=["federated", "pooled"])  # fmt: skip
    parser.add_argument("--sites", type=int, nargs="*", default=[3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--words", nargs="*", default=[], help="more words of the experiment")
    parser.add_argument("--output", default="")
    args = parser.parse_args()
    if {*_BASELINES} & {*args.arms} and "federated" not in args.arms:
        parser.error("--arms local and pooled want federated, too: the same images and first model")
    result: dict[str, Any] = {
        "benchmark": "segmentation_dice",
        "machine": describe_machine(),
        "words": args.words,
        "pooled_batch_size": _POOLED_BATCH,
        "bound": BOUND,
        "sites": {},
    }
    for count in args.sites:
        of_count: dict[str, Any] = {"runs": []}
        result["sites"][str(count)] = of_count
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as folder:
                of_count["runs"].append(_arms(Path(folder), count, seed, args))
            gaps = [run["gap"]["value"] for run in of_count["runs"] if "gap" in run]
            if gaps:
                of_count |= {"mean_gap": mean(gaps), "within_bound": mean(gaps) >= -BOUND}
            save(result, args.output)
    publish(result, args.output)


def _arms(folder: Path, count: int, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of each arm, and `gap`: federated minus pooled, by patient."""
    found: dict[str, Any] = {"seed": seed}
    made: dict[str, Predictions] = {}
    experiments: dict[str, Experiment] = {}
    for arm in (arm for arm in _FEDERATED if arm in args.arms):
        began = time.monotonic()
        single = [f"training.local_epochs={args.rounds}"] if arm == "single" else []
        asked = [
            "experiment=segmentation", f"federation.rounds={args.rounds}", *_FEDERATED[arm],
            *single, *args.words,
        ]  # fmt: skip
        words = words_of(folder, count, seed, *asked)
        experiments[arm], made[arm], facts = federated(folder / arm, words)
        took = {"seconds": round(time.monotonic() - began, 1)}
        found |= size_of(experiments[arm]) | {"rounds": args.rounds, "test_images": len(made[arm])}
        found[arm] = figures(made[arm]) | facts | took
    wanted = [arm for arm in _BASELINES if arm in args.arms]
    names = [_BASELINES[arm] for arm in wanted]
    others: dict[str, Predictions] = {}
    if names:
        others = dict(baselines(experiments["federated"], names, batch_size=_POOLED_BATCH))
    if "pooled" in wanted:
        made["pooled"] = others.pop("centralised")
        found["pooled"] = figures(made["pooled"])
    if others:
        each = [figures(one) for one in others.values()]
        found["local"] = {"dice": mean(one["dice"] for one in each), "each": each}
    if {"federated", "pooled"} <= made.keys():
        strata = strata_of(made["pooled"])
        one, other = (Judged.of(made[arm]) for arm in ("federated", "pooled"))
        found["gap"] = gap(mask_statistic(one, strata), mask_statistic(other, strata), strata)
    return found


def figures(made: Predictions) -> dict[str, Any]:
    """Return how good masks are."""
    scores: MaskScores = score_masks(made.labels, made.outputs, made.names)
    of_class = {name: one.dice for name, one in scores.per_class.items()}
    return {"dice": scores.dice, "iou": scores.iou, "hd95": scores.hd95, "dice_of_class": of_class}


if __name__ == "__main__":
    main()
