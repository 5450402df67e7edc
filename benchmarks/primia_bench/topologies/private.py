"""Private runs by topology: secure sums and a relay, DP-SGD at each site, at the same epsilon.

Usage: python -m primia_bench.topologies.private [--epsilons 3 10] [--sites 3 10] [--seeds 1 2 3]
    [--rounds 5] [--output benchmarks/results/private_topologies.json]
The table of Beaulieu-Jones et al. 2018, on the digits: ROC-AUC on test images, one class against
the others, with an interval over the seeds. Delta is 1e-3; every run spends its epsilon.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from primia_bench.machine import describe_machine
from primia_bench.topologies.digits import overrides
from primia_bench.topologies.in_memory import Failing, final_figures, train

_WAYS = {"secure": "aggregation=secure", "relay": "strategy=cyclic"}


def measure(
    work: Path, way: str, epsilon: float, sites: int, seed: int, args: argparse.Namespace
) -> float:
    """Train one federation in this process; return its ROC-AUC."""
    folder = work / f"{way}-{epsilon:g}-{sites}-{seed}"
    names = ",".join(f"site-{n + 1}" for n in range(sites))
    words = [
        *overrides(work / "digits"),
        f"federation.sites=[{names}]",
        f"federation.min_sites={sites}",
        f"federation.rounds={args.rounds}",
        _WAYS[way],
        "privacy=dp_sgd",
        f"privacy.epsilon={epsilon:g}",
        "privacy.delta=1e-3",
        f"privacy.steps={args.steps}",
        "privacy.expected_batch=32",
        "model.norm=group",
        "data.normalisation.kind=fixed",
        f"seed={seed}",
        f"output_dir={folder}",
    ]
    experiment, _, _ = train(folder, words, Failing(0.0, seed))
    return round(final_figures(experiment, folder)["roc_auc"], 4)


def row(way: str, epsilon: float, sites: int, scores: list[float]) -> dict[str, Any]:
    """Return the figures of the runs of all seeds."""
    found: dict[str, Any] = {"way": way, "epsilon": epsilon, "sites": sites, "roc_auc": scores}
    found["mean"] = round(float(np.mean(scores)), 4)
    if len(scores) > 1:
        half = stats.t.ppf(0.975, len(scores) - 1) * stats.sem(scores)
        found["half_width"] = round(float(half), 4)
    return found


def main() -> None:
    """Measure, print a line each, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[3, 10])
    parser.add_argument("--sites", type=int, nargs="+", default=[3, 10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="of a site in a round")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    asked = {k: v for k, v in vars(args).items() if k != "output"}
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for sites in args.sites:
            for epsilon in args.epsilons:
                for way in _WAYS:
                    of = [measure(Path(work), way, epsilon, sites, s, args) for s in args.seeds]
                    rows.append(row(way, epsilon, sites, of))
                    print(json.dumps(rows[-1]), flush=True)
                    if args.output:
                        values = {"machine": describe_machine(), "asked": asked, "rows": rows}
                        args.output.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
