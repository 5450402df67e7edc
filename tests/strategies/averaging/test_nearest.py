import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.averaging import nearest as module
from strategies.averaging.nearest import NearestUpdates, nearest, squared_distances


def content(weight, **arrays):
    record = ArrayRecord({name: Array(np.asarray(a, np.float32)) for name, a in arrays.items()})
    return RecordDict({"arrays": record, "metrics": MetricRecord({"weight": weight})})


def chosen(contents, liars, selected):
    places = {id(one): place for place, one in enumerate(contents)}
    return [places[id(one)] for one in nearest(contents, liars, selected)]


def test_the_sum_of_the_nearest_distances_decides():
    # 0, 1, 3, 7 and 100; f = 1, so the two nearest of each: 1 + 9, 1 + 4, 4 + 9, 16 + 36, 93^2 ...
    contents = [content(1.0, w=[value]) for value in (0, 1, 3, 7, 100)]
    assert chosen(contents, 1, 1) == [1]
    assert chosen(contents, 1, 3) == [1, 0, 2]


def test_of_equal_scores_the_first_is_taken():
    assert chosen([content(1.0, w=[value]) for value in (2, 2, 2)], 0, 2) == [0, 1]
    assert chosen([content(1.0, w=[value]) for value in (5, 4, 0)], 0, 1) == [0]


def test_one_update_has_no_neighbour():
    assert chosen([content(1.0, w=[2.0])], 0, 1) == [0]


def test_the_chosen_are_averaged_by_weight_and_each_once():
    # Of 1, 1, 2 and 50 with f = 0 the sums of the two nearest are 1, 1, 2 and 48^2 + 49^2
    rule = NearestUpdates(num_malicious=0, num_selected=3, weighted_by_key="weight")
    sent = [content(w, w=[v]) for w, v in ((1.0, 1), (2.0, 1), (1.0, 2), (9.0, 50))]
    arrays, _ = rule.aggregate_train(1, [Message(one, 0, "train") for one in sent])
    assert arrays["w"].numpy().tolist() == [1.25]  # (1 + 2 + 2) / 4


def test_no_reply_with_content_gives_no_model():
    assert NearestUpdates(num_malicious=0, num_selected=1).aggregate_train(1, []) == (None, None)


def test_small_changes_of_a_large_model_keep_their_distances():
    """|x|^2 is 4 million, where float32 counts in steps of 0.25; the changes are of 2^-10."""
    model, unit = np.full(10_000, 20.0, np.float32), np.float32(2**-10)
    steps = (0, 1, 2, 9, 12)
    contents = [content(1.0, w=model + step * unit) for step in steps]
    found = squared_distances([one["arrays"] for one in contents])
    expected = np.square(np.subtract.outer(steps, steps)) * 10_000 * 2.0**-20
    np.testing.assert_array_equal(found, expected)
    assert chosen(contents, 1, 1) == [1]  # 1 + 1 is the smallest sum of two


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_arrays_that_are_cut_into_columns_add_up(sites, seed):
    rng = np.random.default_rng(seed)
    found = [rng.normal(size=(2, 3, 5)).astype(np.float32) for _ in range(sites)]
    records = [content(1.0, v=a[0, 0, :1], w=a)["arrays"] for a in found]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_COLUMNS", 4)
        distances = squared_distances(records)
    for i, one in enumerate(found):
        for j, other in enumerate(found):
            change = one.astype(np.float64) - other
            wanted = (change**2).sum() + change[0, 0, 0] ** 2
            assert distances[i, j] == pytest.approx(wanted, rel=1e-12)
