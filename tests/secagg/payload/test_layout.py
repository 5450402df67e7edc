from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.payload.layout import WEIGHT, Layout, Number, round_to_digits

NUMBERS = (Number(WEIGHT), Number("loss", step=0.25), Number("counts", 3))


def layout(entries: int = 2, clients: int = 3, clip: float = 1.0) -> Layout:
    return Layout(entries, NUMBERS, clip, max_weight=100, num_clients=clients)


def added(payloads: list[list[np.ndarray]]) -> list[np.ndarray]:
    return [np.sum(column, axis=0, dtype=column[0].dtype) for column in zip(*payloads, strict=True)]


def test_two_clients_by_hand() -> None:
    # (30 * (1, 0) + 10 * (-1, 0.5)) / 40 = (0.5, 0.125); 2.25 + 1 = 3.25
    plan = layout()
    totals = added(
        [
            plan.encode(np.array([1, 0.0]), {WEIGHT: [30], "loss": [2.25], "counts": [1, 2, 3]}),
            plan.encode(np.array([-1, 0.5]), {WEIGHT: [10], "loss": [1.0]}),
        ]
    )
    values = plan.numbers_of(totals)
    assert values == {WEIGHT: [40], "loss": [3.25], "counts": [1, 2, 3]}
    bound = plan.error_bound(2, 40)
    assert bound == pytest.approx(1 / (2**31 / 3) * 100 / 40)
    assert plan.mean_of(totals, 40) == pytest.approx([0.5, 0.125], abs=bound)


def test_a_client_without_an_update_adds_zeros() -> None:
    plan = layout()
    totals = added([plan.encode(None, {}), plan.encode(np.array([0.5, 0.25]), {WEIGHT: [50]})])
    assert plan.mean_of(totals, 50) == pytest.approx([0.5, 0.25], abs=1e-8)
    assert plan.mean_of([np.zeros(2, np.uint32), totals[1]], 0) is None


def test_numbers_alone() -> None:
    plan = layout(entries=0)
    (table,) = plan.encode(None, {"counts": [4, 5, 6]})
    assert plan.numbers_of([table])["counts"] == [4, 5, 6]
    assert plan.mean_of([table], 0) is None


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(3, 12), st.floats(1e-3, 100))
def test_the_mean_is_within_the_bound(data: st.DataObject, clients: int, clip: float) -> None:
    plan = layout(entries=4, clients=clients, clip=clip)
    entry = st.floats(-clip, clip)
    updates = data.draw(
        st.lists(st.lists(entry, min_size=4, max_size=4), min_size=1, max_size=clients)
    )
    weights = [data.draw(st.integers(1, 100)) for _ in updates]
    totals = added(
        [
            plan.encode(np.array(update), {WEIGHT: [weight]})
            for update, weight in zip(updates, weights, strict=True)
        ]
    )
    exact = np.average(np.array(updates), axis=0, weights=weights)
    bound = plan.error_bound(len(updates), sum(weights))
    error = np.abs(plan.mean_of(totals, sum(weights)) - exact)
    assert (error <= bound * (1 + 1e-6) + np.abs(exact) * 2**-23).all()


@pytest.mark.parametrize(
    ("update", "values", "match"),
    [
        (np.zeros(2), {WEIGHT: [101]}, "weight=101 of an update"),
        (np.zeros(2), {WEIGHT: [0]}, "weight=0 of an update"),
        (None, {WEIGHT: [5]}, "weight=5 of no update"),
        (np.zeros(2), {WEIGHT: [5], "counts": [1]}, "counts has 1 numbers; expected 3"),
        (np.array([0, 1.5]), {WEIGHT: [5]}, "entry 1 of the update is 1.5"),
        (np.array([np.nan, 0]), {WEIGHT: [5]}, "expected finite numbers"),
    ],
)
def test_refuses(update: np.ndarray | None, values: dict[str, list[float]], match: str) -> None:
    with pytest.raises(ProtocolError, match=match):
        layout().encode(update, values)


def test_clips_only_where_that_was_agreed() -> None:
    plan = layout()
    vectors = plan.encode(np.array([5.0, -5.0]), {WEIGHT: [100]}, overflow="clip")
    assert plan.mean_of(vectors, 100) == pytest.approx([1, -1])


def test_sums_of_another_layout_are_refused() -> None:
    with pytest.raises(ProtocolError, match="do not fit the layout"):
        layout().numbers_of([np.zeros(5, np.uint64)])


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [(1234, 2, 1200), (1250, 2, 1300), (7, 2, 7), (99, 1, 100), (0, 2, 0), (1234, 0, 1234)],
)
def test_rounding_to_digits(value: int, digits: int, expected: int) -> None:
    assert round_to_digits(value, digits) == expected
