"""FedBN and FedPer where every site has a scanner of its own: MCC beside a shared model.

For each seed the same federation is trained with `model.shared=all`, `no_norm` and `body`; each
site's model is scored on that site's test patients. Differences are of the same seed.

    python -m primia_bench.models.own_layers --seeds 1 2 3 --output results.json
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import matthews_corrcoef

from primia_bench.machine import describe_machine, publish, save
from primia_bench.models.federated import Scored, mean_interval, score, train
from primia_bench.models.scanners import SITES, write_sites

_SHARED = ("all", "no_norm", "body")


def one_run(folder: Path, seed: int, shared: str, rounds: int, patients: int) -> dict[str, float]:
    """Train once; return the MCC of each site, and of all test images together."""
    data = write_sites(folder / f"data-{seed}", patients=patients, seed=seed)
    words = [f"model.shared={shared}", f"seed={seed}", f"federation.rounds={rounds}"]
    words.append("training.local_epochs=2")
    run = train(data, folder / f"run-{seed}-{shared}", *words)
    found: dict[str, Scored] = {}
    for site in SITES:
        model = run if shared == "all" else run / "sites" / site / "model"
        found[site] = score(model, data, site)
    labels = np.concatenate([one.labels for one in found.values()])
    called = np.concatenate([one.outputs.argmax(axis=1) for one in found.values()])
    together = float(matthews_corrcoef(labels, called))
    return {"together": together, **{site: one.mcc for site, one in found.items()}}


def summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return means over seeds, and what own layers add to a shared model."""
    keys = ("together", *SITES)
    found: dict[str, Any] = {
        shared: {key: mean_interval([run[key] for run in of]) for key in keys}
        for shared, of in runs.items()
        if of
    }
    for shared in _SHARED[1:]:
        pairs = list(zip(runs[shared], runs["all"], strict=False))
        if pairs:
            found[f"{shared} beyond all"] = mean_interval(
                [own["together"] - common["together"] for own, common in pairs]
            )
    return found


def main() -> None:
    """Train all and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--patients", type=int, default=450)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    arguments = parser.parse_args()
    document: dict[str, Any] = {
        "benchmark": "own_layers",
        "settings": {"rounds": arguments.rounds, "epochs": 2, "patients": arguments.patients},
        "machine": describe_machine(),
    }
    runs: dict[str, list[dict[str, float]]] = {shared: [] for shared in _SHARED}
    with tempfile.TemporaryDirectory(prefix="primia-own-") as folder:
        for seed in arguments.seeds:
            for shared in _SHARED:
                size = (arguments.rounds, arguments.patients)
                runs[shared].append(one_run(Path(folder), seed, shared, *size))
                document |= {"mcc": summary(runs), "seeds": arguments.seeds}
                save(document, arguments.output)
    publish(document, arguments.output)


if __name__ == "__main__":
    main()
