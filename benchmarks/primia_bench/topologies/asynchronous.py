"""Rounds that wait for a slow site, and rounds that do not, against simulated time and updates.

`python -m primia_bench.topologies.asynchronous --output benchmarks/results/asynchronous.json`: test
MCC on the digits of five sites, one of which takes five times as long. The unit of time is an image
pass of a fast site; messages take none. Means over seeds, 95 % intervals of Student's t;
differences are taken within a seed. The arm `buffered_3` is `fedbuff_3` in secure sums, with the
code of real sites, and ends in the same model. Bytes are those of arrays and the protocol's parts.
"""

import argparse
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from flwr.app import ConfigRecord, Message
from scipy import stats

from primia_bench.machine import describe_machine, publish
from primia_bench.topologies.compare import mcc
from primia_bench.topologies.digit_sites import (
    CLASSES,
    DigitGrid,
    DigitSite,
    arrays_of,
    dealt,
    digits,
    network,
    network_of,
)
from primia_bench.topologies.masked import masked
from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.flower import roster_grid
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.provisioning.identities import prepare_secure
from strategies.aggregators.aggregator import Request
from strategies.registry import build_aggregator

DEALS = {"even": 0.0, "dirichlet_0.3": 0.3}
ARMS: dict[str, dict[str, Any]] = {
    "synchronous": {"name": "plain"},
    "fedasync": {"name": "asynchronous", "buffer": 1, "mixing": 0.6},
    "fedbuff_3": {"name": "asynchronous", "buffer": 3},
    "buffered_3": {
        "name": "buffered", "buffer": 3, "allow_other_survivors": True, "mixed_rounds": True
    },
}  # fmt: skip
PASS, SITES, SLOWER = 100.0, 5, 5  # seconds of a fast site's pass: looks are a second apart
DIGITS = 2  # of a site's weight, in all arms as in secure sums
TIMES, UPDATES = (5, 10, 20, 40), (10, 20, 40)
ENOUGH = 0.9  # an MCC


class Clock:
    """The module `time` for who waits: who sleeps is at once where he wanted to be."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self.seconds += seconds

    def monotonic(self) -> float:
        """Return the seconds so far."""
        return self.seconds


class TimedGrid(DigitGrid):
    """Digit sites whose answers come when their training would be over."""

    def __init__(self, sites: list[DigitSite], clock: Clock) -> None:
        super().__init__(sites)
        self._clock, self._due = clock, dict[str, float]()

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Answer at once, and keep the answer; the last site is the slow one."""
        ids = []
        for message in messages:
            ids += super().push_messages([message])
            slow = SLOWER if message.metadata.dst_node_id == SITES else 1
            takes = PASS * slow if message.metadata.message_type == "train" else 0.0
            self._due[ids[-1]] = self._clock.seconds + takes
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Give the answers that are due."""
        due = [one for one in message_ids if self._due[one] <= self._clock.seconds]
        return super().pull_messages(due)


@dataclass
class Timed:
    """A run: time, updates so far and test MCC after each round; bytes; the last model's digest."""

    rounds: list[tuple[float, int, float]] = field(default_factory=list)
    bytes_up: int = 0
    model: str = ""


def one_run(arm: str, dirichlet: float, seed: int) -> Timed:
    """Return one run of an arm."""
    clock = Clock()
    with patch.object(roster_grid, "time", clock), TemporaryDirectory() as folder:
        return _timed(arm, dirichlet, seed, clock, Path(folder))


def _timed(arm: str, dirichlet: float, seed: int, clock: Clock, folder: Path) -> Timed:
    train, test = digits(seed)
    parts = dealt(train, SITES, dirichlet=dirichlet, seed=seed)
    sites = [DigitSite(f"site-{n}", part, 1, n - 1, DIGITS) for n, part in enumerate(parts, 1)]
    asked = _experiment(arm, seed, [site.name for site in sites], folder)
    if asked.aggregation.secure:
        sites = masked(sites, asked)
    grid, names = TimedGrid(sites, clock), asked.federation.sites
    roster = RosterGrid(grid, names)
    for node, site in grid.sites.items():
        roster.introduce(node, site.name)
    roster.select()
    arrays = arrays_of(network(seed))
    aggregator = build_aggregator(asked, model=arrays, parameters=list(arrays), outputs=CLASSES)
    found, updates, number = Timed(), 0, 0
    while clock.seconds < TIMES[-1] * PASS:
        number += 1
        request = Request(number, arrays, ConfigRecord({}), 100 * PASS)
        outcome = aggregator.train(request, roster, lambda row: None)
        assert outcome.arrays is not None, outcome.rows
        arrays, updates = outcome.arrays, updates + outcome.count("ok")
        found.bytes_up += outcome.bytes_up
        found.rounds.append((clock.seconds / PASS, updates, mcc(network_of(arrays), test)))
    found.model = sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest()
    return found


def _experiment(arm: str, seed: int, names: list[str], folder: Path) -> Experiment:
    """Return an arm's experiment; of secure sums, with keys of the sites in the folder."""
    aggregation = AggregationConfig(**ARMS[arm])
    asked = Experiment(
        seed=seed,
        output_dir=str(folder),
        aggregation=aggregation,
        federation=FederationConfig(rounds=1000, sites=names, min_sites=aggregation.least_sites),
    )
    return replace(asked, aggregation=prepare_secure(asked, folder))


def at_time(run: list[tuple[float, int, float]], when: float) -> float:
    """Return the MCC of the newest model at a time; a round that waits a look longer counts."""
    return next((score for at, _, score in reversed(run) if at <= when * 1.02), 0.0)


def at_updates(run: list[tuple[float, int, float]], most: int) -> float:
    """Return the MCC of the newest model that so many updates are in."""
    return next((score for _, count, score in reversed(run) if count <= most), 0.0)


def until(run: list[tuple[float, int, float]]) -> float | None:
    """Return when the MCC was enough for the first time."""
    return next((round(at, 1) for at, _, score in run if score >= ENOUGH), None)


def interval(values: list[float]) -> dict[str, float]:
    """Return the mean, and the half-width of a 95 % interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if len(values) > 1 else 0.0
    return {"mean": round(mean(values), 4), "half_width": round(float(half), 4)}


def deal(dirichlet: float, seeds: list[int]) -> dict[str, Any]:
    """Return what each arm reaches on one way of dealing."""
    timed = {arm: [one_run(arm, dirichlet, seed) for seed in seeds] for arm in ARMS}
    runs = {arm: [run.rounds for run in timed[arm]] for arm in ARMS}
    times = {arm: {t: [at_time(run, t) for run in runs[arm]] for t in TIMES} for arm in ARMS}
    first = times["synchronous"]
    return {
        "mcc_by_time": {
            arm: {str(t): interval(found[t]) for t in TIMES} for arm, found in times.items()
        },
        "less_synchronous_by_time": {
            arm: {
                str(t): interval([a - b for a, b in zip(found[t], first[t], strict=True)])
                for t in TIMES
            }
            for arm, found in times.items()
            if arm != "synchronous"
        },
        "mcc_by_updates": {
            arm: {str(n): interval([at_updates(run, n) for run in runs[arm]]) for n in UPDATES}
            for arm in ARMS
        },
        f"time_until_mcc_{ENOUGH}": {arm: [until(run) for run in runs[arm]] for arm in ARMS},
        "updates_in_all": {arm: [run[-1][1] for run in runs[arm]] for arm in ARMS},
        "bytes_up_by_update": {
            arm: round(mean(run.bytes_up / run.rounds[-1][1] for run in timed[arm])) for arm in ARMS
        },
        "buffered_3_ends_in_the_model_of_fedbuff_3": [
            one.model == other.model
            for one, other in zip(timed["buffered_3"], timed["fedbuff_3"], strict=True)
        ],
    }


def main() -> None:
    """Measure, print and write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments.add_argument("--output", default="")
    asked = arguments.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    began = time.process_time()
    result = {
        "what": __doc__.split("\n")[0],
        "sites": SITES,
        "slow_site_takes_times": SLOWER,
        "arms": ARMS,
        "seeds": asked.seeds,
        "deals": {name: deal(dirichlet, asked.seeds) for name, dirichlet in DEALS.items()},
        "processor_seconds": round(time.process_time() - began, 1),
        "machine": describe_machine(),
    }
    publish(result, asked.output)


if __name__ == "__main__":
    main()
