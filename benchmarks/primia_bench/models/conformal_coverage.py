"""How often sets of classes hold the true one: asked and found, in all, by site and by class.

One secure run with `task=conformal` is trained. Its own card's sets are judged on the test patients
of each site. Beside that, validation and test patients are drawn anew many times from the held-out
ones, with the model as it is: the mean over draws is what the method gives, without the luck of one
split.

    python -m primia_bench.models.conformal_coverage --output results.json
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from primia_bench.machine import describe_machine, publish
from primia_bench.models.federated import Scored, score, train
from primia_bench.models.scanners import SITES, write_sites
from primia_flwr.evaluation.sets import set_rule
from primia_flwr.models.card import CARD_FILE, read_card
from primia_flwr.statistics.conformal import SetFigures, prediction_sets, set_thresholds

_BINS, _DRAWS = 200, 500


def of_the_run(run: Path, scored: dict[str, Scored], coverage: float) -> dict[str, Any]:
    """Return what the run's own sets cover at each site, and how large they are."""
    card, _ = read_card(run / CARD_FILE)
    rule = set_rule(card, coverage=coverage, by_class=False)
    found = {
        site: SetFigures.of(rule.sets(one.outputs), one.labels, one.patients)
        for site, one in scored.items()
    }
    every = [rule.sets(one.outputs) for one in scored.values()]
    labels = np.concatenate([one.labels for one in scored.values()])
    patients = [f"{site} {who}" for site, one in scored.items() for who in one.patients]
    whole = SetFigures.of(np.concatenate(every), labels, patients)
    shown = {"all": whole, **found}
    return {
        "calibration_patients": rule.patients,
        **{name: _rounded(of.to_dict()) for name, of in shown.items()},
    }


def over_draws(scored: dict[str, Scored], coverage: float, *, by_class: bool) -> dict[str, Any]:
    """Return the mean coverage of halves of the held-out patients by the other halves."""
    rng, held = np.random.default_rng(0), list[dict[str, float]]()
    labels = np.concatenate([one.labels for one in scored.values()])
    outputs = np.concatenate([one.outputs for one in scored.values()])
    sites = np.repeat(list(scored), [len(one.labels) for one in scored.values()])
    who = np.unique(
        [f"{site} {one}" for site, of in scored.items() for one in of.patients],
        return_inverse=True,
    )[1]
    for _ in range(_DRAWS):
        chosen = rng.permutation(who.max() + 1) < (who.max() + 1) // 2
        calibrates = np.flatnonzero(chosen[who])
        order = rng.permutation(calibrates)
        one_each = order[np.unique(who[order], return_index=True)[1]]
        scores = 1 - outputs[one_each, labels[one_each]]
        counts = np.zeros((outputs.shape[1], _BINS), np.int64)
        bins = np.clip(np.ceil(scores * _BINS).astype(int) - 1, 0, _BINS - 1)
        np.add.at(counts, (labels[one_each], bins), 1)
        limits = set_thresholds(counts, coverage=coverage, by_class=by_class)
        tested = ~chosen[who]
        sets = prediction_sets(outputs[tested], limits, bins=_BINS)
        right = sets[np.arange(len(sets)), labels[tested]]
        found = {"all": right.mean(), "mean_size": sets.sum(axis=1).mean()}
        found |= {str(s): right[sites[tested] == s].mean() for s in scored}
        found |= {f"class {k}": right[labels[tested] == k].mean() for k in range(outputs.shape[1])}
        held.append(found)
    return {key: round(float(np.mean([one[key] for one in held])), 4) for key in held[0]}


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}


def main() -> None:
    """Train, judge, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--patients", type=int, default=1500)
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shifted", action="store_true", help="each site a scanner of its own")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="primia-sets-") as name:
        folder = Path(name)
        data = write_sites(
            folder / "data",
            patients=arguments.patients,
            seed=arguments.seed,
            shifted=arguments.shifted,
            test=0.5,
        )
        words = ("task=conformal", f"federation.rounds={arguments.rounds}", "data.val_fraction=0.4")
        run = train(data, folder / "run", *words, f"seed={arguments.seed}")
        scored = {site: score(run, data, site) for site in SITES}
        document: dict[str, Any] = {
            "benchmark": "conformal_coverage",
            "settings": {k: v for k, v in vars(arguments).items() if k != "output"},
            "machine": describe_machine(),
            "mcc": {site: round(one.mcc, 4) for site, one in scored.items()},
            "of_the_run": of_the_run(run, scored, arguments.coverage),
            "over_draws": over_draws(scored, arguments.coverage, by_class=False),
            "over_draws_by_class": over_draws(scored, arguments.coverage, by_class=True),
        }
    publish(document, arguments.output)


if __name__ == "__main__":
    main()
