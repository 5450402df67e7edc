"""The recipe of the pretrained case study, chosen over the federation: validation patients only.

Trains `experiment=pneumonia_pretrained` once for each candidate with a seed of its own, which deals
other patients to hospitals, validation and test than the seeds of the case study, and compares what
the hospitals' validation sums say of the best round. No test image is looked at.

    python -m primia_bench.training.recipe --data ../shared/data/chest_xray \
        --runs outputs/recipe --output results/case_study_recipe.json
"""

import argparse
from pathlib import Path

from primia_bench.machine import describe_machine, publish
from primia_bench.training.case_study import train
from primia_flwr.runs.metadata import read_json

SEED = 101
CANDIDATES = {
    "rate 5e-4": ("training.learning_rate=5e-4",),
    "rate 1.5e-3": ("training.learning_rate=1.5e-3",),
    "rate 1e-3, batches of 8": (
        "training.learning_rate=1e-3",
        "training.batch_size=8",
        "training.sync_every_n_batches=74",
    ),
    "rate 2e-4": ("training.learning_rate=2e-4",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the radiographs")
    parser.add_argument("--runs", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    parser.add_argument("overrides", nargs="*", help="of every candidate")
    given = parser.parse_intermixed_args()
    rows = {}
    for name, words in CANDIDATES.items():
        folder = given.runs / name.replace(" ", "-").replace(",", "")
        common = (f"seed={SEED}", "baselines=[]", *given.overrides)
        run = train(folder, given.data, *common, *words)
        rows[name] = {"settings": words, "validation": read_json(run / "run.json")["validation"]}
    chosen = max(rows, key=lambda name: float(rows[name]["validation"]["mcc"]))
    result = {"benchmark": "case_study_recipe", "seed": SEED, "candidates": rows, "chosen": chosen}
    publish({**result, "machine": describe_machine()}, given.output)


if __name__ == "__main__":
    main()
