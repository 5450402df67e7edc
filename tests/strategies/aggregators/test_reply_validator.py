import math
import re

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from primia_flwr.tasks.classification import TASK
from strategies.aggregators.reply_validator import ReplyValidator, clean, decode

MODEL = {
    "w": np.zeros((2, 3), dtype=np.float32),
    "bn.running_var": np.ones(2, dtype=np.float32),
}
GOOD = {
    "weight": 20.0,
    "num-examples": 20,
    "num-batches": 2,
    "train-loss": 0.7,
    "epochs": 1.0,
    "stopped-early": 1,
    "images-per-second": 50.0,
    "seconds": 0.4,
    "incoming-loss-sum": 6.0,
    "incoming-num-examples": 10,
    "incoming-confusion": [4, 1, 2, 3],
    "local-loss-sum": 5.0,
    "local-num-examples": 10,
    "local-confusion": [5, 0, 0, 5],
}


def message(metrics=GOOD, arrays=MODEL, name="munich"):
    content = RecordDict()
    if metrics is not None:
        content["metrics"] = MetricRecord(metrics)
    if arrays is not None:
        content["arrays"] = ArrayRecord(
            {n: a if isinstance(a, Array) else Array(a) for n, a in arrays.items()}
        )
    if name is not None:
        content["site"] = ConfigRecord({"name": name})
    return Message(content, 7, "train")


def check(reply):
    return ReplyValidator(MODEL, task=TASK, outputs=2).check(3, "munich", reply)


def without(*keys):
    return {key: value for key, value in GOOD.items() if key not in keys}


def test_a_good_reply_passes_with_all_its_numbers():
    validated = check(message())
    row = validated.row
    assert (row.round, row.site, row.status, row.reason) == (3, "munich", "ok", "")
    assert (row.num_examples, row.num_batches, row.train_loss) == (20, 2, 0.7)
    assert row.stopped_early is True
    assert row.validation == {
        "loss": 0.5, "accuracy": 1.0, "balanced_accuracy": 1.0, "mcc": 1.0
    }  # fmt: skip
    assert validated.update.weight == 20.0
    np.testing.assert_array_equal(validated.update.arrays["w"], MODEL["w"])
    assert validated.incoming.figures()["loss"] == 0.6
    assert validated.incoming.figures()["accuracy"] == 0.7


def test_a_site_that_only_evaluated_counts_for_the_validation_only():
    validated = check(message(metrics=without("weight", "num-batches", "train-loss"), arrays=None))
    assert validated.row.status == "evaluated"
    assert validated.update is None
    assert validated.incoming.num_examples == 10


def test_a_site_without_validation_images_still_counts_for_the_mean():
    metrics = {k: v for k, v in GOOD.items() if not k.startswith(("incoming", "local"))}
    validated = check(message(metrics=metrics))
    assert (validated.row.status, validated.incoming) == ("ok", None)
    assert validated.update is not None


def nan(array, value=math.nan):
    changed = array.copy()
    changed.flat[0] = value
    return changed


W = MODEL["w"]
LIAR = Array(W)
LIAR.data = Array(np.zeros((2, 4), dtype=np.float32)).data
SHORT = Array(W)
SHORT.data = LIAR.data[:-20]
BOMB = Array(W)
BOMB.data = Array(W).data.replace(b"(2, 3), }     ", b"(2, 3000000),}")
NO_NUMPY = Array(dtype="float32", shape=(2, 3), stype="pickle", data=b"cos\nsystem\n")
OBJECTS = Array(W)
OBJECTS.data = Array(W).data.replace(b"'<f4'", b"'|O8'")
NESTED = Array(W)
NESTED.data = b"\x93NUMPY\x01\x00" + (900).to_bytes(2, "little") + b"-" * 900 + b"\n"


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (dict(arrays={"w": W}), "array 'bn.running_var' is missing"),
        (dict(arrays={**MODEL, "x": W}), "array 'x' is unknown"),
        (dict(arrays={**MODEL, "w": W.T.copy()}), r"'w' is float32 \(3, 2\); expected float32"),
        (dict(arrays={**MODEL, "w": W.astype("f8")}), r"'w' is float64 \(2, 3\)"),
        (dict(arrays={**MODEL, "w": W.astype(">f4")}), r"'w' is >f4"),
        (dict(arrays={**MODEL, "w": np.asfortranarray(W + 1)}), "row by row"),
        (dict(arrays={**MODEL, "w": nan(W)}), "'w' has 1 NaN or infinite entries"),
        (dict(arrays={**MODEL, "w": nan(W, math.inf)}), "'w' has 1 NaN or infinite"),
        (dict(arrays={**MODEL, "w": nan(W, -math.inf)}), "'w' has 1 NaN or infinite"),
        (dict(arrays={**MODEL, "bn.running_var": -np.ones(2, "f4")}), "expected variances"),
        (dict(arrays={**MODEL, "w": LIAR}), r"'w' is float32 \(2, 4\)"),
        (dict(arrays={**MODEL, "w": SHORT}), r"'w' is float32 \(2, 4\)"),
        (dict(arrays={**MODEL, "w": BOMB}), r"'w' is float32 \(2, 3000000\)"),
        (dict(arrays={**MODEL, "w": NO_NUMPY}), "'w' is no NumPy array"),
        (dict(arrays={**MODEL, "w": OBJECTS}), r"'w' is object \(2, 3\)"),
        (dict(arrays={**MODEL, "w": NESTED}), "'w' has no readable header"),
        (dict(metrics=None), "the reply has no metrics"),
        (dict(metrics=without("weight")), "weight=None; expected a finite number"),
        (dict(metrics={**GOOD, "weight": 0.0}), "weight=0; expected a number above 0"),
        (dict(metrics={**GOOD, "weight": -1.0}), "weight=-1; expected a number above 0"),
        (dict(metrics={**GOOD, "weight": math.nan}), "weight=nan; expected a finite number"),
        (dict(metrics={**GOOD, "weight": math.inf}), "weight=inf; expected a finite number"),
        (dict(metrics={**GOOD, "weight": 1e300}), "at most 1e"),
        (dict(metrics={**GOOD, "weight": [1.0]}), r"weight=\[1.0\]; expected a finite number"),
        (dict(metrics=without("num-examples")), "num-examples=None"),
        (dict(metrics=without("num-batches")), "num-batches=None"),
        (dict(metrics={**GOOD, "train-loss": math.nan}), "train-loss=nan"),
        (dict(metrics={**GOOD, "incoming-confusion": [1] * 9}), "confusion has 9 entries"),
        (dict(metrics={**GOOD, "incoming-confusion": [1, 2, 3]}), "confusion has 3 entries"),
        (dict(metrics={**GOOD, "incoming-confusion": [-1, 1, 5, 5]}), "smallest -1"),
        (dict(metrics={**GOOD, "incoming-confusion": [4, 1, 2, 4]}), "counts 11 images"),
        (dict(metrics={**GOOD, "incoming-loss-sum": math.nan}), "incoming-loss-sum=nan"),
        (dict(metrics={**GOOD, "incoming-loss-sum": -1.0}), "incoming-loss-sum=-1"),
        (dict(metrics=without("incoming-loss-sum")), "incoming-loss-sum=None"),
        (dict(metrics={"num-examples": 1}, arrays=None), "neither arrays nor a validation"),
        (dict(name="paris"), "answers as 'paris'; expected 'munich'"),
    ],
)
def test_each_kind_of_rubbish_is_left_out_with_its_reason(parts, reason):
    validated = check(message(**parts))
    assert validated.row.status == "rejected"
    assert validated.update is None
    assert validated.incoming is None
    assert re.search(reason, validated.row.reason), validated.row.reason


@pytest.mark.parametrize(
    ("reason", "status", "shown"),
    [
        ("<class 'primia_flwr.errors.DataError'>:<'no images'>", "failed", "DataError: no images"),
        ("<class 'primia_flwr.errors.PolicyRefusal'>:<'not approved'>", "refused", "not approved"),
        ("node\noffline\x1b[31m", "failed", "node offline [31m"),
        (None, "failed", "error code 5 without a reason"),
    ],
)
def test_errors_and_refusals_are_told_apart(reason, status, shown):
    reply = Message(Error(5, reason), reply_to=message())
    row = check(reply).row
    assert (row.status, row.reason) == (status, shown)


def test_a_long_reason_is_cut():
    assert len(clean("x" * 10_000)) == 300


def test_a_float_array_is_read_without_a_copy():
    array = Array(W + 1)
    values = decode("w", array, (2, 3), np.dtype("float32"))
    np.testing.assert_array_equal(values, W + 1)
    assert not values.flags.owndata


@given(st.binary(max_size=300), st.integers(0, 140))
@settings(max_examples=300, deadline=None)
def test_forged_bytes_are_refused_or_are_the_array(noise, position):
    array = Array(W)
    array.data = array.data[:position] + noise + array.data[position + len(noise) :]
    try:
        values = decode("w", array, (2, 3), np.dtype("float32"))
    except ProtocolError:
        return
    assert (values.shape, values.dtype) == ((2, 3), np.float32)
