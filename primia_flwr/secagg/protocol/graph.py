"""Who masks with whom: every client with every other, or each with k others.

The sparse graph is for many clients and an honest-but-curious server: k grows with the
logarithm of their number. It is a ring in random order, in which each client is joined to the
k / 2 before and after it (the Harary graph H_{n,k}).

Source: Bell et al. 2020, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead".
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.primitives.keys import digest

Graph = dict[str, frozenset[str]]
_SECURITY_BITS = 40
_SMALL = 1e-9  # counts such as 0.3 * 10 must not lose a client to the rounding of floats


def neighbours(clients: Sequence[str], degree: int, seed: bytes) -> Graph:
    """Return the neighbours of each client, the same on every machine.

    Parameters
    ----------
    clients : sequence of str
        Distinct names; their order does not matter.
    degree : int
        Neighbours of each client, even, at least 2; or so many that it is all others.
    seed : bytes
        Decides who is joined to whom; nobody may know it before the clients are fixed.

    Raises
    ------
    ConfigError
        If the degree of a sparse graph is odd or below 2.
    ProtocolError
        If a client is named twice.
    """
    if len(set(clients)) != len(clients):
        repeated = next(name for name in clients if list(clients).count(name) > 1)
        raise ProtocolError(f"client {repeated!r} is named twice; expected distinct clients")
    if degree >= len(clients) - 1:
        everyone = frozenset(clients)
        return {name: everyone - {name} for name in clients}
    if degree < 2 or degree % 2:
        raise ConfigError(f"degree={degree}; expected an even number of neighbours, at least 2")
    ring = sorted(clients, key=lambda name: digest("primia secagg v1 graph", seed, name))
    around = [step for step in range(-degree // 2, degree // 2 + 1) if step]
    return {
        name: frozenset(ring[(i + step) % len(ring)] for step in around)
        for i, name in enumerate(ring)
    }


def is_connected(graph: Mapping[str, Collection[str]], survivors: Collection[str]) -> bool:
    """Say whether each survivor can be reached from each other over survivors alone.

    If not, the sum over each component would come to light: the round must be refused.
    """
    left = set(survivors)
    if not left:
        return False
    reached = [left.pop()]
    while reached:
        found = left & set(graph[reached.pop()])
        left -= found
        reached.extend(found)
    return not left


@dataclass(frozen=True)
class SparseParameters:
    """Neighbours of each client, and how many of their shares give a secret back."""

    degree: int
    threshold: int


@lru_cache(maxsize=16)
def suggested_degree(
    num_clients: int,
    *,
    corrupt_fraction: float,
    dropout_fraction: float,
    security_bits: float = _SECURITY_BITS,
    correctness_bits: float = 20,
) -> SparseParameters | None:
    """Return the least degree that makes the sparse graph good, and its least threshold.

    The server is honest but curious; it and up to a fraction of the clients work together, and
    up to another fraction drops out, both regardless of the graph. A graph is good if

    - the honest survivors are connected, and no client has `threshold` corrupt neighbours,
      each but for a probability of 2^-(security_bits + 1);
    - each client has `threshold` surviving neighbours, but for 2^-correctness_bits.

    To cut a ring, k / 2 clients in a row must be gone in two places; union bounds go over the
    clients and over the pairs of places. The shares that count are those that neighbours hold.

    Returns
    -------
    SparseParameters or None
        None: no sparse graph of so few clients is good; use the complete one.

    Raises
    ------
    ConfigError
        If a fraction is not in [0, 1) or there is no client.

    Source: the three conditions of Bell et al. 2020, as their group's program computes them
    (google-parfait/federated-compute, graph_parameter_finder.cc, honest-but-curious server);
    here the neighbours are drawn from the other n - 1 clients, there from n.
    """
    for name, fraction in (("corrupt", corrupt_fraction), ("dropout", dropout_fraction)):
        if not 0 <= fraction < 1:
            raise ConfigError(f"{name}_fraction={fraction}; expected at least 0 and below 1")
    if num_clients < 1:
        raise ConfigError(f"num_clients={num_clients}; expected at least 1")
    corrupt = math.floor(corrupt_fraction * num_clients + _SMALL)
    dropped = math.floor(dropout_fraction * num_clients + _SMALL)
    others = num_clients - 1
    secure = _allowed(security_bits)
    correct = 2.0**-correctness_bits
    for degree in range(2, others, 2):
        if _cut_probability(num_clients, corrupt + dropped, degree) > secure:
            continue
        threshold = least_threshold(num_clients, corrupt, degree, security_bits=security_bits)
        many_dropped = _at_least(others, dropped, degree)[max(degree - threshold + 1, 0)]
        if threshold <= degree and many_dropped <= correct / num_clients:
            return SparseParameters(degree, threshold)
    return None


def least_threshold(
    num_clients: int, corrupt: int, degree: int, *, security_bits: float = _SECURITY_BITS
) -> int:
    """Return the least number, at least 2, such that no client has so many corrupt neighbours.

    But for a probability of 2^-(security_bits + 1), where so many are corrupt regardless of the
    graph.
    """
    others = num_clients - 1
    few = _at_least(others, min(corrupt, others), min(degree, others))
    return max(2, int(np.argmax(few <= _allowed(security_bits) / num_clients)))


def _allowed(security_bits: float) -> float:
    return math.pow(2.0, -(security_bits + 1))


def _cut_probability(num_clients: int, gone: int, degree: int) -> float:
    """Bound the probability that a ring falls apart when `gone` clients leave at random."""
    if gone < degree:
        return 0.0
    pairs = num_clients * (num_clients - degree - 1) / 2
    log_gone = _log_choose(num_clients - degree, gone - degree) - _log_choose(num_clients, gone)
    return min(1.0, pairs * math.exp(log_gone))


def _at_least(population: int, marked: int, drawn: int) -> NDArray[np.float64]:
    """Return P[X >= i], i = 0 to drawn + 1, X the marked ones among those drawn."""
    total = _log_choose(population, drawn)
    masses = np.zeros(drawn + 2)
    for i in range(max(0, drawn - (population - marked)), min(marked, drawn) + 1):
        ways = _log_choose(marked, i) + _log_choose(population - marked, drawn - i)
        masses[i] = math.exp(ways - total)
    return masses[::-1].cumsum()[::-1]


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
