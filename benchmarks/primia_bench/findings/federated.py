"""Area under the ROC curve of each finding: secure federated training beside pooled training.

Five findings on synthetic radiographs, some labels unknown, three sites; each seed has images and a
split of its own. The federated arm is the real app with secure aggregation, over sites in memory.

    python -m primia_bench.findings.federated --seeds 1 2 3 --output out.json
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

from primia_bench.machine import describe_machine, publish, save
from primia_bench.topologies.arms import baselines, federated, gap, size_of, words_of
from primia_flwr.tasks.findings.evidence import findings_statistic, strata_of
from primia_flwr.tasks.findings.scores import score_findings
from primia_flwr.tasks.predictions import Predictions

_BOUND = 0.01


def main() -> None:
    """Train one seed after the other; what is done stands in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--words", nargs="*", default=[], help="more words of the experiment")
    parser.add_argument("--output", default="")
    args = parser.parse_args()
    result: dict[str, Any] = {
        "benchmark": "findings_federated",
        "machine": describe_machine(),
        "sites": args.sites,
        "words": args.words,
        "bound": _BOUND,
        "runs": [],
    }
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            result["runs"].append(_arms(Path(folder), seed, args))
        gaps = [run["federated_minus_pooled"]["value"] for run in result["runs"]]
        result["mean_gap"] = mean(gaps)
        result["within_bound"] = mean(gaps) >= -_BOUND
        save(result, args.output)
    publish(result, args.output)


def _arms(folder: Path, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    began = time.monotonic()
    words = words_of(
        folder, args.sites, seed,
        "experiment=multilabel", "aggregation=secure", *args.words,
    )  # fmt: skip
    experiment, made, facts = federated(folder / "secure", words)
    ((_, pooled),) = baselines(experiment, ["centralised"])
    strata = strata_of(made.labels, made.patients)
    one, other = (findings_statistic(of, strata) for of in (made, pooled))
    return {
        "seed": seed,
        **size_of(experiment),
        "test_images": len(made),
        "federated": _areas(made) | facts,
        "pooled": _areas(pooled),
        "federated_minus_pooled": gap(one, other, strata),
        "seconds": round(time.monotonic() - began, 1),
    }


def _areas(made: Predictions) -> dict[str, Any]:
    scores = score_findings(made.labels, made.outputs, made.names)
    return {
        "auc": scores.auc,
        "auc_of_finding": {name: one.auc for name, one in scores.per_finding.items()},
    }


if __name__ == "__main__":
    main()
