"""Training on secret-shared data: a head on a public backbone's features, two hospitals, a dealer.

What matrix conjugation promises (`primia_bench.compared.more`), without its break. Each hospital
runs a public backbone on its own images in the clear (`primia_bench.compared.shared_features`) and
shares features and labels additively with the other one. Both train a linear head on the shares,
by CrypTen's autograd over our TLS links and with our dealer. Three processes: two hospitals, and
`primia serve crypto-provider`; each has its own kit and key. Beside it the same steps in the clear
on all images in one place, and the cross-entropy that heads are trained by elsewhere here.

    python -m primia_bench.compared.shared_training --data ../shared/data/chest_xray \
        --output results/compared_shared_training.json

Needs the extras [inference] and [pretrained]. Without `--data` on synthetic radiographs only. Real
ones: Kermany, Zhang, Goldbaum, Mendeley Data V2, doi:10.17632/rscbjbr9sj.2, CC BY 4.0.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from primia_bench.compared.shared_features import Features, Set, read_features
from primia_bench.compared.shared_head import Head, Plan, train_plain
from primia_bench.compared.shared_processes import train_over_tls
from primia_bench.machine import describe_machine, publish

_REPEATS = 5  # of the plain training, whose median time counts
_SYNTHETIC = ("experiment=demo", "data.synthetic.patients=1600", "data.image_size=64")
_REAL = ("experiment=pneumonia_pretrained", "data.image_size=128")


def accuracy(head: Head, test: Set) -> float:
    """Return the share of a test set that a head names rightly."""
    return round(float((head.classes(test[0]) == test[1]).float().mean()), 4)


def plain_clock(plan: Plan, pooled: Set) -> tuple[float, float]:
    """Return elapsed and processor seconds of the same steps in the clear, medians."""
    times = []
    for _ in range(_REPEATS):
        began = time.perf_counter(), time.process_time()
        train_plain(plan, *pooled)
        times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    elapsed, busy = zip(*times, strict=True)
    return statistics.median(elapsed), statistics.median(busy)


def quality(found: Features, plan: Plan, head: Head) -> dict[str, Any]:
    """Return how right the head on shares is, and how like the plain one."""
    test = found.test
    plain = train_plain(plan, *found.pooled)
    softmax = train_plain(plan, *found.pooled, softmax=True)
    same = (head.classes(test[0]) == plain.classes(test[0])).float().mean()
    return {
        "test_images": len(test[1]),
        "accuracy_plain": accuracy(plain, test),
        "accuracy_plain_by_cross_entropy": accuracy(softmax, test),
        "accuracy_on_shares": accuracy(head, test),
        "on_shares_less_plain": round(accuracy(head, test) - accuracy(plain, test), 4),
        "same_class": round(float(same), 4),
        "largest_weight": round(float(plain.weights.abs().max()), 4),
        "largest_difference_of_a_weight": float((head.weights - plain.weights).abs().max()),
    }


def cost(
    found: Features, plan: Plan, parties: list[dict[str, Any]], dealer: float
) -> dict[str, Any]:
    """Return bytes and times beside those of the same steps in the clear; `dealer`: its seconds."""
    elapsed, busy = plain_clock(plan, found.pooled)
    backbone, took = found.seconds_of_the_backbone, max(one["seconds"] for one in parties)
    processor = dealer + sum(one["processor_seconds"] for one in parties)
    head = (plan.features + 1) * plan.classes
    return {
        "steps": plan.steps,
        "minutes": round(took / 60, 2),
        "seconds_plain": elapsed,
        "seconds_of_the_backbone": round(backbone, 2),
        "times_slower": round(took / elapsed),
        "times_the_processor": round(processor / busy),
        "times_slower_with_the_backbone": round((backbone + took) / (backbone + elapsed), 2),
        "messages_of_a_hospital": max(one["messages_sent"] for one in parties),
        "bytes_between_the_hospitals": sum(one["bytes_sent"] for one in parties),
        "bytes_of_the_dealer": sum(one["bytes_from_dealer"] for one in parties),
        "bytes_of_the_features": sum(plan.images) * plan.features * 4,
        "bytes_of_averaging_after_each_step": plan.steps * 2 * 2 * 4 * head,
        "processor_seconds_of_the_dealer": round(dealer, 2),
        "hospitals": parties,
    }


def measure(found: Features, plan: Plan) -> dict[str, Any]:
    """Return quality and cost beside those of the plain head.

    Raises
    ------
    SystemExit
        If the hospitals opened different heads.
    """
    parties, dealer = train_over_tls(plan, found.hospitals)
    opened = [(one.pop("weights"), one.pop("bias")) for one in parties]
    if opened[0] != opened[1]:
        raise SystemExit("the hospitals opened different heads")
    head = Head(*map(torch.tensor, opened[0]))
    facts = {"images": list(plan.images), "classes": list(found.classes)}
    return {**facts, **quality(found, plan, head), **cost(found, plan, parties, dealer)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, help="folder of real radiographs; none: synthetic only"
    )
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--images", type=int, default=500, help="of each hospital")
    parser.add_argument("--batch", type=int, default=125)
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sets = {"synthetic": _SYNTHETIC}
    if args.data:
        sets["radiographs"] = (*_REAL, f"data.root={args.data}")
    rows = {}
    for name, words in sets.items():
        found = read_features(words, args.images, args.features)
        images = (len(found.hospitals[0][1]), len(found.hospitals[1][1]))
        plan = Plan(images, args.features, len(found.classes), args.batch, args.passes)
        rows[name] = measure(found, plan)
    shared = {key: value for key, value in vars(args).items() if key not in ("data", "output")}
    result = {"benchmark": "compared_shared_training", **shared, "sets": rows}
    publish(result | {"machine": describe_machine()}, args.output)


if __name__ == "__main__":
    main()
