"""Dice of a U-Net: secure federated, beside pooled, local, relayed and private training.

Lung and consolidation on synthetic radiographs, each seed with images and a split of its own. A
federated arm is the real app with secure aggregation, over sites in memory. With 4 and 16 sites
and `--relays` it is the table of Sheller et al. 2020: `cyclic` hands one model round and round
(CIIL), `single` from site to site once (IIL), all with as many image passes.

    python -m primia_bench.segmentation.dice --seeds 1 2 3 --output out.json
    python -m primia_bench.segmentation.dice --sites 4 16 --relays --local --epsilon 0

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
from primia_flwr.tasks.masks.evidence import Judged, mask_statistic, strata_of
from primia_flwr.tasks.masks.scores import MaskScores, score_masks
from primia_flwr.tasks.predictions import Predictions

BOUND = 0.01
_PRIVATE = (
    "privacy=dp_sgd", "model.norm=group", "model.weight_standardisation=true",
)  # fmt: skip


def main() -> None:
    """Train the arms one after the other; what is done stands in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, nargs="*", default=[3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--epsilon", type=float, default=0.0, help="of a private arm; 0: none")
    parser.add_argument("--relays", action="store_true", help="also cyclic and single")
    parser.add_argument("--local", action="store_true", help="also each site by itself")
    parser.add_argument("--words", nargs="*", default=[], help="more words of the experiment")
    parser.add_argument("--output", default="")
    args = parser.parse_args()
    result: dict[str, Any] = {
        "benchmark": "segmentation_dice",
        "machine": describe_machine(),
        "words": args.words,
        "bound": BOUND,
        "sites": {},
    }
    for count in args.sites:
        runs: dict[str, Any] = {"runs": []}
        result["sites"][str(count)] = runs
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as folder:
                runs["runs"].append(_arms(Path(folder), count, seed, args))
            gaps = [run["federated_minus_pooled"]["value"] for run in runs["runs"]]
            runs["mean_gap"] = mean(gaps)
            runs["within_bound"] = mean(gaps) >= -BOUND
            save(result, args.output)
    publish(result, args.output)


def _arms(folder: Path, count: int, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    began = time.monotonic()

    def run(name: str, *more: str) -> tuple[Any, Predictions, dict[str, Any]]:
        asked = ["experiment=segmentation", *args.words, *more]
        return federated(folder / name, words_of(folder, count, seed, *asked))

    experiment, made, facts = run("secure", "aggregation=secure")
    found = {"seed": seed, **size_of(experiment), "test_images": len(made)}
    found["federated"] = _figures(made) | facts
    names = ["local"] * args.local + ["centralised"]
    others = dict(baselines(experiment, names))
    pooled = others.pop("centralised")
    found["pooled"] = _figures(pooled)
    if others:
        local = [_figures(one) for one in others.values()]
        found["local"] = {"dice": mean(one["dice"] for one in local), "each": local}
    if args.relays:
        found["cyclic"] = _figures(run("cyclic", "strategy=cyclic")[1])
        once = ("federation.rounds=1", f"training.local_epochs={found['rounds']}")
        found["single"] = _figures(run("single", "strategy=single", *once)[1])
    if args.epsilon:
        _, private, claim = run("private", *_PRIVATE, f"privacy.epsilon={args.epsilon}")
        found["private"] = _figures(private) | {"epsilon": args.epsilon} | claim
    strata = strata_of(made)
    one, other = (mask_statistic(Judged.of(of), strata) for of in (made, pooled))
    found["federated_minus_pooled"] = gap(one, other, strata)
    return found | {"seconds": round(time.monotonic() - began, 1)}


def _figures(made: Predictions) -> dict[str, Any]:
    scores: MaskScores = score_masks(made.labels, made.outputs, made.names)
    of_class = {name: one.dice for name, one in scores.per_class.items()}
    return {"dice": scores.dice, "iou": scores.iou, "hd95": scores.hd95, "dice_of_class": of_class}


if __name__ == "__main__":
    main()
