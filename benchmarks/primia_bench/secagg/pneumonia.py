"""Does secure aggregation harm a run? The case study with and without it.

Same data, seed and weights (image counts rounded to two digits); the secure run is audited: each
round's mean is compared with the float64 mean of the sites' own updates. Or reads two finished
runs. No image and no file name of the data is written.

    python -m primia_bench.secagg.pneumonia --data ../shared/data/chest_xray --output results.json
    python -m primia_bench.secagg.pneumonia --secure outputs/a --fixed outputs/b --plain outputs/c

A last-bit difference grows over thousands of steps of training: two runs that differ in nothing
but rounding end in different models. So there are two plain runs to compare with: the default,
which adds up on the same fixed-point scale and from which the secure run may not differ at all, and
one that averages in float64 (`aggregation.float_mean=true`). `--control` takes further plain runs
that differ from `--plain` in little (rounding, the number of threads), to show how far that alone
leads.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

from primia_bench.machine import describe_machine, publish
from primia_bench.training.pneumonia import train
from primia_flwr.models.card import weights_digest
from primia_flwr.runs.metadata import read_json
from primia_flwr.runs.secure_sums import TRAIN, read_sums, totals
from primia_flwr.storage import plain_csv

BOUND_MCC = 0.005
LAST_ROUNDS = 20
# The bound is of exact arithmetic; float64 adds up to 2^-19 of it (see FixedPoint).
BOUND_AUDIT = 1 + 2.0**-19
_COMMON = ["baselines=[]", "training.precision=bf16", "tracking=disabled", "quiet=true"]
_SECURE = ["aggregation=secure", "debug.verify_sums=true"]
_FIXED = ["aggregation=plain", "strategy.weight_digits=2"]
_PLAIN = [*_FIXED, "aggregation.float_mean=true"]
_FACTS = ("git_commit", "config_hash", "seed", "rounds", "best_round", "strategy", "seconds")
_SCORES = ("mcc", "accuracy", "roc_auc", "n")


def compare(secure: Path, fixed: Path, plain: Path, control: list[Path]) -> dict[str, Any]:
    """Return the figures of the runs, their differences, and what the audit found."""
    runs = {"secure": secure, "plain, fixed point": fixed, "plain": plain}
    runs |= {f"control {number}": path for number, path in enumerate(control, start=1)}
    scores = {name: read_json(path / "metrics.json")["federated"] for name, path in runs.items()}
    mcc = {name: found["mcc"] for name, found in scores.items()}
    models = {name: weights_digest(path) for name, path in runs.items()}
    differences = {name: mcc["secure"] - mcc[name] for name in ("plain, fixed point", "plain")}
    sums = [row for row in read_sums(secure) if row.kind == TRAIN and row.good]
    found = totals(sums)
    ratio = found.audit_ratio
    return {
        "benchmark": "secagg_pneumonia",
        "scores": {name: {key: s[key] for key in _SCORES} for name, s in scores.items()},
        "secure_minus_plain_mcc": {
            name: {
                "value": round(difference, 4),
                "same_model": models["secure"] == models[name],
                "bound": BOUND_MCC,
                "holds": abs(difference) <= BOUND_MCC,
            }
            for name, difference in differences.items()
        },
        "control_minus_plain_mcc": [
            round(value - mcc["plain"], 4) for name, value in mcc.items() if "control" in name
        ],
        "update_error_over_quantisation_bound": {
            "rounds_audited": sum(row.audit_error is not None for row in sums),
            "largest": ratio,
            "error_bound": found.error_bound,
            "bound": BOUND_AUDIT,
            "holds": ratio is not None
            and ratio <= BOUND_AUDIT
            and all(row.audit_error is not None for row in sums),
        },
        "validation": {name: _validation(path) for name, path in runs.items()},
        "runs": {
            name: {key: read_json(path / "run.json").get(key) for key in _FACTS}
            for name, path in runs.items()
        },
        "machine": describe_machine(),
    }


def _validation(run_dir: Path) -> dict[str, float]:
    """Return the loss after round 1, and the means of loss and MCC over the last rounds."""
    with (run_dir / "history.csv").open() as file:
        rows = list(plain_csv.DictReader(file))
    last = rows[-LAST_ROUNDS:]
    return {
        "first_loss": float(rows[0]["val_loss"]),
        **{
            f"mean_{name}_of_last_{len(last)}": round(
                statistics.fmean(float(row[f"val_{name}"]) for row in last), 4
            )
            for name in ("loss", "mcc")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, help="folder of the radiographs: train both now")
    parser.add_argument("--secure", type=Path, help="a finished secure run, audited")
    parser.add_argument("--fixed", type=Path, help="a finished plain run")
    parser.add_argument("--plain", type=Path, help="a finished plain run with float_mean=true")
    parser.add_argument("--control", type=Path, nargs="*", default=[], help="more plain runs")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    parser.add_argument("overrides", nargs="*", help="e.g. seed=2")
    arguments = parser.parse_args()
    secure, fixed, plain = arguments.secure, arguments.fixed, arguments.plain
    if arguments.data:
        given = [*_COMMON, *arguments.overrides]
        secure = train(arguments.data, [*given, *_SECURE])
        fixed = train(arguments.data, [*given, *_FIXED])
        plain = train(arguments.data, [*given, *_PLAIN])
    if not (secure and fixed and plain):
        parser.error("expected --data, or --secure, --fixed and --plain")
    publish(compare(secure, fixed, plain, arguments.control), arguments.output)


if __name__ == "__main__":
    main()
