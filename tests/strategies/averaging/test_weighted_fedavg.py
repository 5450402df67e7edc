import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from strategies.averaging.weighted_fedavg import WeightedFedAvg, weighted_mean


def reply(weight, **arrays):
    record = ArrayRecord({name: Array(array) for name, array in arrays.items()})
    metrics = MetricRecord({"weight": weight})
    return Message(RecordDict({"arrays": record, "metrics": metrics}), 0, "train")


def test_the_mean_of_four_numbers():
    # (1 * 2 + 3 * 6) / 4 = 5 and (1 * -4 + 3 * 0) / 4 = -1
    strategy = WeightedFedAvg(weighted_by_key="weight")
    replies = [
        reply(1.0, w=np.array([2.0, -4.0], dtype=np.float32)),
        reply(3.0, w=np.array([6.0, 0.0], dtype=np.float32)),
    ]
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays["w"].numpy().tolist() == [5.0, -1.0]
    assert arrays["w"].numpy().dtype == np.float32


def test_sums_are_in_double_precision():
    # In float32, 2**24 + 1 is 2**24: the three ones would be lost.
    big, ones = np.float32(2**24), [np.ones(1, dtype=np.float32)] * 3
    mean = weighted_mean([np.array([big]), *ones, np.array([-big])], [1.0] * 5)
    assert mean.tolist() == [np.float32(0.6)]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_result_has_the_dtype_of_the_arrays(dtype):
    mean = weighted_mean([np.zeros((), dtype), np.ones((), dtype)], [1.0, 1.0])
    assert (mean.dtype, mean.shape, float(mean)) == (dtype, (), 0.5)


def test_no_reply_with_content_gives_no_model():
    assert WeightedFedAvg().aggregate_train(1, []) == (None, None)


def test_a_weight_that_is_a_list_is_refused():
    strategy = WeightedFedAvg(weighted_by_key="weight")
    strategy._check_and_log_replies = lambda replies, is_train: (list(replies), [])
    with pytest.raises(ProtocolError, match=r"a site's weight is \[.*expected one number"):
        strategy.aggregate_train(1, [reply([1.0, 2.0], w=np.ones(1, dtype=np.float32))])


@given(
    values=st.lists(
        st.tuples(
            st.floats(1, 1e7), st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3)
        ),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=150, deadline=None)
def test_equals_numpy_in_float64_to_the_last_float32_bit(values):
    weights = [weight for weight, _ in values]
    arrays = [np.array(row, dtype=np.float32) for _, row in values]
    mean = weighted_mean(arrays, weights)
    expected = np.average(np.array(arrays, dtype=np.float64), axis=0, weights=weights)
    # Half a unit in the last place of the result, plus what float64 may lose in 20 terms.
    scale = max(1.0, float(np.abs(np.array(arrays)).max()))
    np.testing.assert_allclose(mean, expected, rtol=2**-23, atol=scale * 1e-14)
    assert mean.dtype == np.float32
    assert (mean <= np.max(arrays, axis=0)).all()
    assert (mean >= np.min(arrays, axis=0)).all()
