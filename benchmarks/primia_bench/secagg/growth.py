"""The figure "growth": what one client and the server have to do as clients become more.

Complete graph: the bytes that a client sends and gets are a + b n, and its work is at most
O(n^2 + n m) for m entries (Bonawitz et al. 2017, table 1), a slope of at most 2. Sparse graph:
bytes are a + b log n; log n in the client's work would make its slope 0.3 at most, and n would
make it 1, so that 0.5 tells the two apart. The slope is that of the logarithm of the seconds
over the logarithm of n, between the two largest n. Bytes are those beyond the masked vectors
and, down, the model.

The sparse graph has degree and threshold of `suggested_degree` where a tenth of the clients drops
out and another tenth works together with the server: one fewer are declared, because thresholds
leave a margin of one. Vectors are short, so that what grows with the number of clients is seen.
What the server does has no bound; it is in the table.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from primia_bench.secagg.rounds import FLOOR, Costs, Round, enlist
from primia_bench.secagg.rows import Row, at_most, say
from primia_flwr.errors import ConfigError
from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.secagg.protocol.graph import SparseParameters, suggested_degree
from primia_flwr.secagg.protocol.parties import LEAST_SURVIVORS, Floor

PART = "growth"
ENTRIES = 1_000
VECTOR_BYTES = 4 * ENTRIES + 8
COMPLETE = (3, 10, 30, 100)
SPARSE = (30, 100, 300, 1000)
CORRUPT = DROPPING = 0.1
LEAST_CLIENTS = 30  # of small instances so many are run that their median says something
DEVIATION_BOUND = 0.05


@dataclass(frozen=True)
class Formula:
    """How a graph's costs grow. `term`: of the bytes; `slope`: bound on that of the seconds."""

    graph: str
    text: str
    term: Callable[[float], float]
    slope: float


FORMULAS = (
    Formula("complete", "a + b n", float, 2.0),
    Formula("sparse", "a + b log n", math.log, 0.5),
)


def measure(
    complete: Sequence[int] = COMPLETE, sparse: Sequence[int] = SPARSE
) -> tuple[list[Row], list[dict[str, Any]]]:
    """Return the rows, and a table of costs by graph and number of clients."""
    run_instance(LEAST_CLIENTS, None)  # not measured: the first one pays for imports
    table = [cost_line("complete", count, None) for count in complete]
    table += [cost_line("sparse", count, parameters_for(count)) for count in sparse]
    rows = []
    for formula in FORMULAS:
        lines = [line for line in table if line["graph"] == formula.graph]
        rows += growth_rows(formula, lines)
    wrong = sum(line["wrong_sums"] for line in table)
    rows.append(at_most(PART, "wrong sums", wrong, 0))
    return rows, table


def parameters_for(count: int) -> SparseParameters:
    """Return degree and threshold of the sparse graph of so many clients."""
    found = suggested_degree(count, corrupt_fraction=CORRUPT, dropout_fraction=DROPPING)
    if found is None:
        raise ConfigError(f"{count} clients are too few for a sparse graph; expected more")
    return found


def growth_rows(formula: Formula, lines: Sequence[dict[str, Any]]) -> list[Row]:
    """Compare the costs of one graph with the formula."""
    counts = [line["clients"] for line in lines]
    rows = []
    for direction in ("up", "down"):
        values = [line[f"bytes_{direction}"] for line in lines]
        off = deviation([formula.term(count) for count in counts], values)
        what = f"{formula.graph} graph, bytes {direction}: largest deviation from {formula.text}"
        rows.append(at_most(PART, what, off, DEVIATION_BOUND))
    rise = slope(counts, [line["client_seconds"] for line in lines])
    what = f"{formula.graph} graph, seconds of a client: slope"
    return [*rows, at_most(PART, what, rise, formula.slope, timed=True)]


def deviation(terms: Sequence[float], values: Sequence[float]) -> float:
    """Return how far values are from the best a + b * term, relative to each."""
    relative = np.array([[1 / y, x / y] for x, y in zip(terms, values, strict=True)])
    fit = np.linalg.lstsq(relative, np.ones(len(values)))[0]
    return float(np.abs(relative @ fit - 1).max())


def slope(counts: Sequence[int], values: Sequence[float]) -> float:
    """Return that of log(value) over log(count) between the last two."""
    return math.log(values[-1] / values[-2]) / math.log(counts[-1] / counts[-2])


def cost_line(graph: str, count: int, sparse: SparseParameters | None) -> dict[str, Any]:
    """Return the costs of an instance: the median client's seconds, the most bytes of a client."""
    repeats = -(-LEAST_CLIENTS // count)
    runs = [run_instance(count, sparse) for _ in range(repeats)]
    costs = [one for one, _ in runs]
    seconds = [value for one in costs for value in one.seconds.values()]
    line = {
        "graph": graph,
        "clients": count,
        "neighbours": sparse.degree if sparse else count - 1,
        "threshold": sparse.threshold if sparse else FLOOR.least_threshold(count),
        "client_seconds": round(statistics.median(seconds), 6),
        "server_seconds": round(statistics.median(one.server_seconds for one in costs), 6),
        "bytes_up": max(costs[0].up.values()) - VECTOR_BYTES,
        "bytes_down": max(costs[0].down.values()),
        "wrong_sums": sum(not right for _, right in runs),
    }
    say(f"growth: {line}")
    return line


def run_instance(count: int, sparse: SparseParameters | None) -> tuple[Costs, bool]:
    """Run an instance in which nobody drops out; return its costs and whether the sum is right."""
    declared = max(math.floor(CORRUPT * count) - 1, 0) if sparse else 0
    floor = Floor(max(LEAST_SURVIVORS, declared + 2), declared)

    def ones(_: str) -> list[Vector]:
        return [np.ones(ENTRIES, np.uint32), np.ones(1, np.uint64)]

    one = Round(enlist(count, floor), ones, degree=sparse.degree if sparse else None)
    totals = one.run()
    agreed = sparse is None or one.server.threshold == sparse.threshold
    return one.costs, agreed and all((total == count).all() for total in totals)
