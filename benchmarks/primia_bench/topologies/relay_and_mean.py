"""A relay beside the mean of a secure sum, at equal image passes and at equal sequential steps.

`python -m primia_bench.topologies.relay_and_mean --output benchmarks/results/relay_and_mean.json`:
test MCC on the digits by the number of sites, passes and deal; how often the model travels at the
same passes; differences within a seed with a 95 % interval of Student's t. The mean is the one of
`aggregation=secure`, which a plain run computes bit for bit.
"""

import argparse
import logging
from statistics import mean
from typing import Any

import numpy as np
import torch
from scipy import stats

from primia_bench.machine import describe_machine, publish
from primia_bench.topologies.compare import federated, mcc
from primia_bench.topologies.digit_sites import (
    arrays_of,
    dealt,
    digits,
    network,
    network_of,
    trained,
)

DEALS = {"even": 0.0, "dirichlet_0.3": 0.3}
ENOUGH = 0.9  # an MCC


class Deal:
    """One deal of the images to sites, and what each topology makes of it."""

    def __init__(self, sites: int, dirichlet: float, seed: int) -> None:
        train, self._test = digits(seed)
        self._parts = dealt(train, sites, dirichlet=dirichlet, seed=seed)
        self._seed = seed

    def of(self, rule: str, passes: int, rounds: int) -> float:
        """Return the test MCC after so many image passes in so many rounds."""
        options = {"order": "random"} if rule == "cyclic" else {}
        found = federated(rule, self._parts, self._seed, passes=passes, rounds=rounds, **options)
        return mcc(network_of(found[2].arrays), self._test)

    def local(self, passes: int) -> float:
        """Return the mean test MCC of the sites by themselves."""
        seed, parts = self._seed, self._parts
        alone = [trained(network(seed), p, epochs=passes, seed=i) for i, p in enumerate(parts)]
        return round(mean(mcc(model, self._test) for model in alone), 4)


def row(sites: int, dirichlet: float, seeds: list[int], most: int) -> dict[str, Any]:
    """Return what relay and mean reach with so many sites."""
    deals = [Deal(sites, dirichlet, seed) for seed in seeds]
    counts = [n for n in (1, 2, 4, 8, 16, 32) if n <= most]
    relay = {n: [deal.of("cyclic", n, n) for deal in deals] for n in counts}
    means = {n: [deal.of("fedavg", n, n) for deal in deals] for n in counts}
    steps = [deal.of("fedavg", most * sites, most * sites) for deal in deals]
    travels = {n: [deal.of("cyclic", most, n) for deal in deals] for n in counts}
    single = [deal.of("single", most, 1) for deal in deals]
    local = [deal.local(most) for deal in deals]
    model = sum(array.nbytes for array in arrays_of(network(0)).values())
    return {
        "relay_mcc_by_passes": {n: _summary(found) for n, found in relay.items()},
        "mean_mcc_by_passes": {n: _summary(found) for n, found in means.items()},
        "passes_until_mcc_0.9": {"relay": _first(relay), "mean": _first(means)},
        "relay_less_mean_at_equal_passes": _paired(relay[most], means[most]),
        "relay_less_mean_at_equal_sequential_steps": _paired(relay[most], steps),
        "mean_rounds_at_equal_sequential_steps": most * sites,
        "relay_mcc_by_cycles_at_equal_passes": {n: _summary(f) for n, f in travels.items()},
        "cyclic_less_single": _paired(relay[most], single),
        "single_less_local": _paired(single, local),
        "bytes_a_site_and_round": {"relay": 2 * model, "mean": 2 * model},
    }


def _first(by_passes: dict[int, list[float]]) -> int | None:
    """Return the fewest passes whose mean MCC is enough."""
    return next((n for n, found in by_passes.items() if mean(found) >= ENOUGH), None)


def _paired(some: list[float], others: list[float]) -> dict[str, float]:
    return _summary([a - b for a, b in zip(some, others, strict=True)])


def _summary(values: list[float]) -> dict[str, float]:
    """Return the mean and the half-width of a 95 % interval over the seeds."""
    count = len(values)
    half = float(stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / count**0.5)
    return {"mean": round(mean(values), 4), "half_width": round(half, 4)}


def main() -> None:
    """Measure, print and write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--sites", type=int, nargs="+", default=[3, 4, 5, 10, 20])
    arguments.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    arguments.add_argument("--passes", type=int, default=16, help="a power of 2 up to 32")
    arguments.add_argument("--output", default="")
    asked = arguments.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    rows = {}
    for sites in asked.sites:
        for name, dirichlet in DEALS.items():
            key = f"{sites}_sites_{name}"
            rows[key] = row(sites, dirichlet, asked.seeds, asked.passes)
            print(key, rows[key]["relay_less_mean_at_equal_passes"], flush=True)
    result = {
        "what": __doc__.split("\n")[0],
        "seeds": asked.seeds,
        "passes": asked.passes,
        "rows": rows,
        "machine": describe_machine(),
    }
    publish(result, asked.output)


if __name__ == "__main__":
    main()
