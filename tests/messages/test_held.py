"""Arrays in memory: the same as Flower's to who reads or sends them, without its copies."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from primia_flwr.messages.held import HeldArray, chosen, held, values_of


def values() -> np.ndarray:
    return np.arange(6, dtype=np.float32).reshape(2, 3)


def test_it_is_flowers_array_to_who_sends_it() -> None:
    ours, flowers = HeldArray(values()), Array(values())
    assert (ours.dtype, ours.shape, ours.stype) == ("float32", (2, 3), "numpy.ndarray")
    assert ours.data == flowers.data
    assert ours == flowers
    assert ours != HeldArray(values() + 1)
    assert ours.nbytes == 24


def test_a_rule_may_change_what_it_reads_and_nobody_else_sees_it() -> None:
    record = held({"a": values()})
    own = record["a"].numpy()
    own += 1
    assert record["a"].numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match="read-only"):
        values_of(record)["a"][0, 0] = 1


def test_records_share_memory_whole_or_in_part() -> None:
    array = values()
    part = chosen(held({"a": array, "b": values()}), ["a"])
    assert list(part) == ["a"]
    assert np.shares_memory(values_of(part)["a"], array)


@pytest.mark.parametrize(
    "array", [values().T, np.float32(3)[None][0:0], np.array(2.5), values()[:, ::2]]
)
def test_rows_in_order_whatever_the_layout(array: np.ndarray) -> None:
    found = values_of(held({"a": array}))["a"]
    assert found.flags.c_contiguous
    assert (found.shape, found.tolist()) == (array.shape, array.tolist())


def test_what_flower_holds_as_bytes_is_read() -> None:
    assert values_of(ArrayRecord({"a": Array(values())}))["a"].tolist() == values().tolist()
