import hashlib
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.primitives.keys import bind
from primia_flwr.secagg.protocol.graph import (
    Graph,
    SparseParameters,
    _cut_probability,
    is_connected,
    neighbours,
    suggested_degree,
)

SEED = bytes(range(32))


def names(count: int) -> list[str]:
    return [f"site-{i}" for i in range(count)]


# --- Graphs -----------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [3, 4, 100])
def test_complete_graph(degree: int) -> None:
    graph = neighbours(["a", "b", "c", "d"], degree, SEED)
    assert graph["a"] == {"b", "c", "d"}
    assert graph["d"] == {"a", "b", "c"}
    assert neighbours(["a"], degree, SEED) == {"a": frozenset()}


def test_ring_in_the_order_of_hashes() -> None:
    def place(name: str) -> bytes:
        return hashlib.sha256(bind("primia secagg v1 graph", SEED, name)).digest()

    ring = sorted(names(6), key=place)
    graph = neighbours(names(6), 2, SEED)
    assert graph[ring[0]] == {ring[5], ring[1]}
    assert graph[ring[3]] == {ring[2], ring[4]}
    assert neighbours(names(6), 4, SEED)[ring[0]] == {ring[4], ring[5], ring[1], ring[2]}


def test_the_order_is_the_same_on_every_machine() -> None:
    graph = neighbours(["berlin", "paris", "rome", "oslo", "wien"], 2, b"seed")
    edges = sorted(f"{a}-{b}" for a in graph for b in graph[a] if a < b)
    assert edges == ["berlin-oslo", "berlin-wien", "oslo-paris", "paris-rome", "rome-wien"]


@settings(deadline=None, max_examples=40)
@given(st.integers(4, 60), st.data(), st.binary(max_size=40))
def test_every_degree_is_exact_and_edges_are_mutual(
    count: int, data: st.DataObject, seed: bytes
) -> None:
    degree = 2 * data.draw(st.integers(1, (count - 2) // 2))
    clients = data.draw(st.permutations(names(count)))
    graph = neighbours(clients, degree, seed)
    assert set(graph) == set(clients)
    for name, others in graph.items():
        assert len(others) == degree
        assert name not in others
        assert all(name in graph[other] for other in others)
    assert graph == neighbours(names(count), degree, seed)
    assert is_connected(graph, clients)


def test_another_seed_gives_another_graph() -> None:
    graphs = [neighbours(names(30), 4, bytes([i])) for i in range(5)]
    assert all(a != b for i, a in enumerate(graphs) for b in graphs[:i])


def test_a_pair_is_joined_as_often_as_the_degree_says() -> None:
    # degree 4 of 9 others: 4 / 9 of 900 seeds is 400, standard deviation 15
    joined = sum(
        "site-7" in neighbours(names(10), 4, i.to_bytes(4, "big"))["site-2"] for i in range(900)
    )
    assert 340 <= joined <= 460


@pytest.mark.parametrize("degree", [-2, 0, 1, 3, 5])
def test_refuses_a_degree(degree: int) -> None:
    with pytest.raises(ConfigError, match=f"degree={degree}; expected an even number"):
        neighbours(names(10), degree, SEED)


def test_refuses_a_client_named_twice() -> None:
    with pytest.raises(ProtocolError, match="client 'b' is named twice"):
        neighbours(["a", "b", "c", "b"], 2, SEED)


# --- Connectedness ----------------------------------------------------------------------


def path(*nodes: str) -> Graph:
    graph: dict[str, set[str]] = {node: set() for node in nodes}
    for one, other in pairwise(nodes):
        graph[one].add(other)
        graph[other].add(one)
    return {node: frozenset(others) for node, others in graph.items()}


def test_connected_by_hand() -> None:
    graph = path("a", "b", "c", "d")
    assert is_connected(graph, "abcd")
    assert is_connected(graph, "abc")
    assert is_connected(graph, "b")
    assert not is_connected(graph, "abd")  # the way to d led over c
    assert not is_connected(graph, "ad")
    assert not is_connected(graph, [])


def test_a_ring_falls_apart_when_cut_twice() -> None:
    graph = neighbours(names(12), 4, SEED)
    ring = sorted(
        names(12),
        key=lambda name: hashlib.sha256(bind("primia secagg v1 graph", SEED, name)).digest(),
    )
    whole = set(ring)
    assert is_connected(graph, whole - {ring[0], ring[1]})  # one gap of k / 2
    assert is_connected(graph, whole - {ring[0], ring[1], ring[5]})
    assert not is_connected(graph, whole - {ring[0], ring[1], ring[5], ring[6]})


# --- Parameters -------------------------------------------------------------------------


def test_cut_probability_against_all_cases() -> None:
    # Of 10 clients of degree 4 any 4 may leave: 210 ways, 25 of them two pairs apart.
    graph = neighbours(names(10), 4, SEED)
    ways = [set(graph) - set(gone) for gone in combinations(graph, 4)]
    cut = sum(not is_connected(graph, left) for left in ways)
    assert (cut, len(ways)) == (25, 210)
    assert _cut_probability(10, 4, 4) == pytest.approx(25 / 210)
    assert _cut_probability(10, 3, 4) == 0


def suggest(count: int, corrupt: float, dropout: float) -> SparseParameters | None:
    return suggested_degree(count, corrupt_fraction=corrupt, dropout_fraction=dropout)


def test_parameters_by_hand() -> None:
    # Nobody is corrupt, 3 of 10 drop out. Degree 2: two gaps of one cut the ring too often.
    # Degree 4: of 9 others 3 are gone, and P[3 of them among 4] = 6/126. Degree 6: 3 remain.
    assert suggest(10, 0.05, 0.33) == SparseParameters(6, 2)
    # Nobody is corrupt and nobody drops out: the ring, and the least threshold there is.
    assert suggest(10, 0.0, 0.0) == SparseParameters(2, 2)


@pytest.mark.parametrize(
    ("count", "corrupt", "dropout", "degree", "threshold"),
    [
        (100, 0.45, 0.45, 92, 46),
        (10, 0.33, 0.33, 8, 4),
        (100, 0.33, 0.33, 68, 34),
        (1_000, 0.33, 0.33, 286, 150),
        (10_000, 0.33, 0.33, 422, 221),
        (100_000, 0.33, 0.33, 480, 251),
        (100, 0.05, 0.33, 28, 6),
        (1_000, 0.05, 0.33, 72, 24),
        (10_000, 0.05, 0.33, 86, 29),
        (1_000_000, 0.05, 0.33, 102, 34),
        (10, 0.33, 0.05, 4, 4),
        (100, 0.33, 0.05, 34, 29),
        (1_000, 0.33, 0.05, 78, 60),
        (10_000, 0.33, 0.05, 92, 70),
        (1_000_000, 0.33, 0.05, 110, 83),
    ],
)
def test_parameters_are_those_that_the_authors_group_publishes(
    count: int, corrupt: float, dropout: float, degree: int, threshold: int
) -> None:
    # google-parfait/federated-compute, fcp/secagg/server/graph_parameter_finder_test.cc,
    # CURIOUS_SERVER; 40 bits of security, 20 of correctness
    assert suggest(count, corrupt, dropout) == SparseParameters(degree, threshold)


def test_few_clients_need_the_complete_graph() -> None:
    assert suggest(3, 0.0, 0.0) is None
    assert suggest(12, 0.45, 0.5) is None  # of 11 others 5 may be corrupt, and 5 remain
    assert suggest(1, 0.0, 0.0) is None


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_refuses_fractions(fraction: float) -> None:
    with pytest.raises(ConfigError, match="corrupt_fraction="):
        suggest(10, fraction, 0.1)
    with pytest.raises(ConfigError, match="dropout_fraction="):
        suggest(10, 0.1, fraction)


def test_refuses_no_clients() -> None:
    with pytest.raises(ConfigError, match="num_clients=0"):
        suggest(0, 0.1, 0.1)
