"""Single, cyclic, ensemble and means on the digits, at equal image passes.

`python -m primia_bench.topologies.compare --output benchmarks/results/topologies.json`: test MCC of
each topology for 4 and 20 sites, dealt evenly and by Dirichlet 0.3, over seeds, with the sequential
steps that each needs; then five sites of which one has its labels turned round.
"""

import argparse
import logging
from statistics import mean
from typing import Any

import numpy as np
import torch
from flwr.app import ConfigRecord

from primia_bench.machine import describe_machine, publish
from primia_bench.topologies.digit_sites import (
    CLASSES,
    DigitGrid,
    DigitSite,
    arrays_of,
    dealt,
    digits,
    evaluation,
    network,
    network_of,
    trained,
)
from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.models.ensemble import Ensemble
from primia_flwr.models.votes import Votes, by_rank
from strategies.aggregators.aggregator import Request
from strategies.aggregators.ensemble import beside, members_of
from strategies.registry import build_aggregator
from strategies.rounds.cross_site import cross_site_matrix

WORSE = 0.02  # how much a vote may lose by a site with turned labels


def federated(
    rule: str, parts: list[Any], seed: int, *, passes: int, rounds: int, **options: Any
) -> Any:
    """Run a rule over sites and return the aggregator, the grid, the request, and the end."""
    names = [f"site-{n:02d}" for n in range(1, len(parts) + 1)]
    ways = {"cyclic": "relay", "single": "relay"}
    asked = Experiment(
        seed=seed,
        strategy=StrategyConfig(name=rule, options=options),
        aggregation=AggregationConfig(name=ways.get(rule, "plain")),
        federation=FederationConfig(rounds=rounds, sites=names, min_sites=len(names)),
    )
    first = arrays_of(network(seed))
    grid = DigitGrid(
        [
            DigitSite(n, p, passes // rounds, i)
            for i, (n, p) in enumerate(zip(names, parts, strict=True))
        ]
    )
    roster = RosterGrid(grid, names)
    for node, site in grid.sites.items():
        roster.introduce(node, site.name)
    roster.select()
    aggregator = build_aggregator(asked, model=first, parameters=list(first), outputs=CLASSES)
    arrays = beside(dict.fromkeys(names, first)) if rule == "ensemble" else first
    for number in range(1, rounds + 1):
        request = Request(number, arrays, ConfigRecord({}), 60.0, len(names))
        outcome = aggregator.train(request, roster, lambda row: None)
        assert outcome.arrays is not None, outcome.rows
        arrays = outcome.arrays
    return aggregator, roster, Request(rounds, arrays, ConfigRecord({}), 60.0), first


def voted(parts: list[Any], seed: int, vote: str, passes: int) -> Ensemble:
    """Train an ensemble and weight it."""
    aggregator, roster, request, first = federated(
        "ensemble", parts, seed, passes=passes, rounds=4, vote=vote
    )
    members = members_of(request.arrays, first)
    sizes = {f"site-{n:02d}": float(len(p[1])) for n, p in enumerate(parts, 1)}
    weights = {"mean": dict.fromkeys(members, 1.0), "size": sizes}.get(vote)
    if weights is None:
        matrix = cross_site_matrix(aggregator, request, roster, 4)
        scores = {r.model: {s: c.figure("mcc") for s, c in r.cells.items()} for r in matrix.rows}
        weights = by_rank(scores, sizes)
    votes = Votes.of("classification", vote, weights)
    return Ensemble({name: network_of(arrays) for name, arrays in members.items()}, votes)


def mcc(model: torch.nn.Module, test: Any) -> float:
    """Return the Matthews correlation on the test images."""
    return round(evaluation(model, test).figures()["mcc"], 4)


def one_deal(sites: int, dirichlet: float, seed: int, passes: int) -> dict[str, float]:
    """Return the test MCC of each topology on one deal of the images."""
    train, test = digits(seed)
    parts = dealt(train, sites, dirichlet=dirichlet, seed=seed)
    alone = [trained(network(seed), p, epochs=passes, seed=i) for i, p in enumerate(parts)]

    def of(rule: str, rounds: int, **options: Any) -> float:
        request = federated(rule, parts, seed, passes=passes, rounds=rounds, **options)[2]
        return mcc(network_of(request.arrays), test)

    return {
        "local": round(mean(mcc(model, test) for model in alone), 4),
        "ensemble": mcc(voted(parts, seed, "mean", passes), test),
        "ensemble_insulearn": mcc(voted(parts, seed, "insulearn", passes), test),
        "single": of("single", 1),
        "cyclic": of("cyclic", passes, order="random"),
        "fedavg": of("fedavg", passes),
        "pooled": mcc(trained(network(seed), train, epochs=passes, seed=0), test),
    }


def one_turned(seed: int, passes: int) -> dict[str, float]:
    """Five sites, the last with its labels turned round: what each rule makes of them."""
    train, test = digits(seed)
    parts = dealt(train, 5, dirichlet=0.0, seed=seed)
    good = parts[:4]
    parts[4] = (parts[4][0], CLASSES - 1 - parts[4][1])

    def of(rule: str, **options: Any) -> float:
        request = federated(rule, parts, seed, passes=passes, rounds=passes, **options)[2]
        return mcc(network_of(request.arrays), test)

    return {
        "ensemble_without_it": mcc(voted(good, seed, "mean", passes), test),
        "ensemble": mcc(voted(parts, seed, "mean", passes), test),
        "ensemble_insulearn": mcc(voted(parts, seed, "insulearn", passes), test),
        "fedavg": of("fedavg"),
        "fedmedian": of("fedmedian"),
        "krum": of("krum", num_malicious=1),
    }


def summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Return each column's mean, and the half-width of a 95 % interval over the seeds."""
    found = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        half = 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0
        found[name] = {"mean": round(mean(values), 4), "half_width": round(half, 4)}
    return found


def main() -> None:
    """Measure, print and write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments.add_argument("--sites", type=int, nargs="+", default=[4, 20])
    arguments.add_argument("--passes", type=int, default=24, help="a multiple of 4")
    arguments.add_argument("--output", default="")
    asked = arguments.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    passes = asked.passes
    deals = {}
    for sites in asked.sites:
        for name, dirichlet in (("even", 0.0), ("dirichlet_0.3", 0.3)):
            rows = [one_deal(sites, dirichlet, seed, passes) for seed in asked.seeds]
            table = summary(rows)
            means = {column: table[column]["mean"] for column in table}
            deals[f"{sites}_sites_{name}"] = {
                "mcc": table,
                "each_seed": rows,
                "cyclic_at_least_single": means["cyclic"] >= means["single"],
                "single_at_least_local": means["single"] >= means["local"],
            }
    turned = [one_turned(seed, passes) for seed in asked.seeds]
    lost = mean(row["ensemble_without_it"] - row["ensemble_insulearn"] for row in turned)
    result = {
        "what": __doc__.split("\n")[0],
        "image_passes": passes,
        "sequential_visits": {"cyclic": "passes x sites", "single": "sites", "fedavg": "passes"},
        "seeds": asked.seeds,
        "deals": deals,
        "one_of_five_sites_with_turned_labels": {
            "mcc": summary(turned),
            "each_seed": turned,
            "insulearn_loses": round(lost, 4),
            "within": WORSE,
            "holds": lost <= WORSE,
        },
        "machine": describe_machine(),
    }
    publish(result, asked.output)


if __name__ == "__main__":
    main()
