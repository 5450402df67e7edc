"""The case study from ImageNet weights, as the paper's: secure, plain, pooled, each hospital alone.

For every seed a secure run of `experiment=pneumonia_pretrained` with its centralised baseline, and
for the seeds of `--local` each hospital by itself, all with as many image passes, a test set of
patients never trained on. For the first seed a plain run, too, which must end in the same model.
Runs are kept in `--runs`; what is finished there is not trained again. Accuracy, MCC and ROC-AUC
have 95 % intervals by patient (`primia compare`); differences to pooled are tested by patient. No
image and no file name of the data is written.

    python -m primia_bench.training.case_study --data ../shared/data/chest_xray \
        --runs outputs/case-study --output results.json

Data: Kermany, Zhang, Goldbaum, Mendeley Data V2, doi:10.17632/rscbjbr9sj.2, CC BY 4.0.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from primia_bench.machine import describe_machine, publish
from primia_flwr.models.card import weights_digest
from primia_flwr.runs.metadata import read_json

BOUND_MCC = 0.01  # of secure below pooled
# Kaissis et al. 2021, Nature Machine Intelligence 3:473, on the set's own 624 test images.
PAPER = {"accuracy": 0.88, "mcc": 0.83, "images": "the official test split, not these patients"}
_SCORES = ("accuracy", "mcc", "roc_auc")
_FACTS = ("git_commit", "config_hash", "seed", "rounds", "best_round", "seconds", "test")
_COMMON = ("tracking=disabled", "quiet=true", "report.saliency=0")


def train(folder: Path, data: Path, *overrides: str, done: str = "metrics.json") -> Path:
    """Train into a folder unless a run is there with the file `done`; a broken one goes on."""
    if (folder / done).exists():
        return folder
    command = [sys.executable, "-m", "primia_flwr.cli.main", "train"]
    words = [f"resume={folder}"] if (folder / "checkpoints").exists() else []
    if not words:
        shutil.rmtree(folder, ignore_errors=True)
        words = ["experiment=pneumonia_pretrained", f"data.root={data}", f"output_dir={folder}"]
        words += [*_COMMON, *overrides]
    subprocess.run([*command, *words], check=True, stdout=sys.stderr)
    return folder


def compared(run: Path, folder: Path) -> dict[str, Any]:
    """Return what `primia compare` finds of a run and its baselines."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "primia_flwr.cli.main", "compare", f"runs=[{run}]"]
    command += ["names=[secure]", f"output={folder}", "quiet=true"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return read_json(folder / "comparison.json")


def row(seed: int, run: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Return a seed's figures: every model's scores, and the secure one's difference to each."""
    figures = found["figures"]
    scores = {name: {key: _interval(f[key]) for key in _SCORES} for name, f in figures.items()}
    mcc = {name: one["mcc"]["value"] for name, one in scores.items()}
    return {
        "seed": seed,
        "images": found["images"],
        "patients": found["patients"],
        "scores": scores,
        "secure_minus_mcc": {
            name: round(mcc["secure"] - value, 4) for name, value in mcc.items() if name != "secure"
        },
        "by_patient": [_pair(pair) for pair in found["pairs"] if "secure" in _names(pair)],
        "run": {key: read_json(run / "run.json").get(key) for key in _FACTS},
    }


def _interval(figure: dict[str, Any]) -> dict[str, float]:
    return {key: round(float(figure[key]), 4) for key in ("value", "low", "high")}


def _names(pair: dict[str, Any]) -> tuple[str, str]:
    return pair["first"], pair["second"]


def _pair(pair: dict[str, Any]) -> dict[str, Any]:
    return {
        "models": _names(pair),
        "mcnemar_p_by_patient": pair["mcnemar"]["p"],
        "mcc_difference": pair["mcc_difference"],
    }


def summarise(rows: list[dict[str, Any]], same_as_plain: bool | None) -> dict[str, Any]:
    """Return the table of the seeds and what was demanded of it."""
    pooled = [r["secure_minus_mcc"][name] for r in rows for name in _pooled(r)]
    local = [v for r in rows for n, v in r["secure_minus_mcc"].items() if "local" in n]
    means = {
        key: round(statistics.fmean(r["scores"]["secure"][key]["value"] for r in rows), 4)
        for key in _SCORES
    }
    return {
        "benchmark": "case_study",
        "paper": PAPER,
        "secure_mean": means,
        "secure_minus_pooled_mcc": {
            "mean": round(statistics.fmean(pooled), 4),
            "bound": -BOUND_MCC,
            "holds": statistics.fmean(pooled) >= -BOUND_MCC,
        },
        "secure_minus_local_mcc": {"of": local, "holds": all(value > 0 for value in local)},
        "same_model_as_plain": same_as_plain,
        "seeds": rows,
        "machine": describe_machine(),
    }


def _pooled(found: dict[str, Any]) -> list[str]:
    return [name for name in found["secure_minus_mcc"] if "centralised" in name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the radiographs")
    parser.add_argument("--runs", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--local", type=int, nargs="*", default=[1, 2, 3], help="of these seeds")
    parser.add_argument("--no-plain", action="store_true", help="no plain run of the first seed")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    parser.add_argument("overrides", nargs="*", help="e.g. federation.rounds=2")
    arguments = parser.parse_intermixed_args()
    rows = []
    for seed in arguments.seeds:
        baselines = "[local,centralised]" if seed in arguments.local else "[centralised]"
        words = (f"seed={seed}", f"baselines={baselines}", *arguments.overrides)
        run = train(arguments.runs / f"secure-{seed}", arguments.data, *words)
        rows.append(row(seed, run, compared(run, arguments.runs / f"compared-{seed}")))
        print(json.dumps(rows[-1]["secure_minus_mcc"]), file=sys.stderr)
    same = None
    if not arguments.no_plain:
        first = arguments.seeds[0]
        words = ("aggregation=plain", "strategy.weight_digits=2", "baselines=[]", f"seed={first}")
        words += tuple(arguments.overrides)
        plain = train(arguments.runs / "plain", arguments.data, *words, done="model.json")
        same = weights_digest(plain) == weights_digest(arguments.runs / f"secure-{first}")
    publish(summarise(rows, same), arguments.output)


if __name__ == "__main__":
    main()
