"""Packing: what is packed comes back, and nothing that is not a model does."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy
from safetensors.numpy import save

from primia_flwr.errors import ProtocolError
from primia_flwr.messages.held import held
from primia_flwr.messages.packing import (
    PACKED,
    pack,
    pack_contents,
    packed,
    unpack,
    unpack_content,
    unpacked,
)

arrays = of_numpy.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    of_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
models = st.dictionaries(st.text(min_size=1, max_size=20), arrays, min_size=0, max_size=6)


def record(model: dict[str, npt.NDArray[Any]]) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in model.items()})


def forged(data: bytes) -> ArrayRecord:
    array = Array(dtype="uint8", shape=(len(data),), stype="safetensors", data=data)
    return ArrayRecord({PACKED: array})


@settings(max_examples=60)
@given(model=models)
def test_what_is_packed_comes_back_bit_for_bit(model: dict[str, npt.NDArray[Any]]) -> None:
    packed = pack(record(model))
    assert len(packed) == min(len(model), 1)
    found = unpack(packed)
    assert set(found) == set(model)
    for name, array in model.items():
        back = found[name].numpy()
        assert (back.dtype, back.shape, back.tobytes()) == (
            array.dtype,
            array.shape,
            array.tobytes(),
        )


def test_one_array_alone_travels_as_flowers_own() -> None:
    packed = pack(held({"w": np.ones(3, np.float32)}))
    assert type(packed["w"]) is Array
    assert packed.object_id == record({"w": np.ones(3, np.float32)}).object_id


def test_61_arrays_of_a_message_become_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    model = {f"layer{i}": np.full((2, 3), i, dtype=np.float32) for i in range(61)}
    content = RecordDict({"arrays": record(model), "config": ConfigRecord({"server-round": 1})})
    content["arrays"]["large"] = Array(np.zeros(20_000, np.float32))
    first, second = Message(content, 1, "train"), Message(content, 2, "train")
    pack_contents([first, second])
    assert [list(m.content.array_records["arrays"]) for m in (first, second)] == [[PACKED]] * 2
    assert first.content["arrays"] is second.content["arrays"]  # packed once, sent twice
    assert first.content["config"] == content["config"]
    unpack_content(first)
    assert first.content["arrays"]["layer60"].numpy().tolist() == [[60.0] * 3] * 2


names = st.text(min_size=1, max_size=10).filter(lambda name: name != PACKED)
numbers = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
configs = st.dictionaries(st.text(max_size=9), st.one_of(numbers, st.binary(max_size=9))).map(
    ConfigRecord
)
metrics = st.dictionaries(st.text(max_size=9), numbers).map(MetricRecord)
words = st.lists(st.integers(0, 2**32 - 1), max_size=5).map(lambda v: np.array(v, "<u4"))


def raw(values: npt.NDArray[Any]) -> Array:
    data = values.tobytes()
    return Array(dtype=str(values.dtype), shape=values.shape, stype="raw", data=data)


LONG = raw(np.zeros(20_000, "<u4"))  # 80 kB, which no record of small ones takes
masked = st.dictionaries(names, words.map(raw), max_size=3).flatmap(
    lambda few: st.sampled_from([ArrayRecord(few), ArrayRecord({**few, "long": LONG})])
)


@settings(max_examples=60)
@given(
    content=st.dictionaries(
        names, st.one_of(configs, metrics, masked, models.map(record)), max_size=5
    ).map(RecordDict)
)
def test_all_records_come_back_and_what_is_small_is_one(content: RecordDict) -> None:
    whole = packed(content)
    large = {name for name, one in content.items() if "long" in one}
    assert len(whole) <= 1 + len(large) or set(whole) == set(content)
    found = unpacked(whole)
    assert set(found) == set(content)
    for name, one in content.items():
        assert type(found[name]) is type(one)
        assert set(found[name]) == set(one)
        for key, value in one.items():
            if isinstance(value, Array):
                assert (found[name][key].stype, found[name][key].shape) == (
                    value.stype,
                    value.shape,
                )
                assert found[name][key].data == value.data
            else:
                assert found[name][key] == value


def test_a_masked_round_is_six_objects_and_an_answer_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Message, RecordDict, what is small; and of an array its record, itself and one piece."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    small = {"secagg": ConfigRecord({"keys": b"k"}), "site": ConfigRecord({"name": "munich"})}
    update = ArrayRecord({"update": LONG, "numbers": raw(np.arange(3, dtype="<u8"))})
    for content, objects in (({**small, "masked": update}, 6), (small, 3)):
        message = Message(RecordDict(content), 1, "train")
        pack_contents([message])
        assert len(get_all_nested_objects(message)) == objects


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tensors/a": b""}, "expected the bytes of a record"),
        ({"config/a": 1}, "expected the bytes of a record"),
        ({"config/a": b"x"}, "cannot be read"),
        ({"metrics/a": ConfigRecord({}).deflate()}, "cannot be read"),
        ({"arrays/a": b"x"}, "cannot be read"),
        ({"config/here": ConfigRecord({}).deflate()}, "is there twice"),
        ({"raw/large": save({"long": np.zeros(1, np.uint8)})}, "is there twice"),
        ({"raw/here": save({"more": np.zeros(1, np.uint8)})}, "is there twice"),
    ],
)
def test_what_packed_records_may_not_hold(change: dict[str, bytes | int], words: str) -> None:
    content = RecordDict({PACKED: ConfigRecord(change), "here": ConfigRecord({"kept": 1})})
    content["large"] = ArrayRecord({"long": LONG})
    with pytest.raises(ProtocolError, match=words):
        unpacked(content)
    assert set(content) == {PACKED, "here", "large"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08\x00\x00\x00\x00\x00\x00\x00notjson!",
        b"\xff\xff\xff\xff\xff\xff\xff\x7f{}",  # a header of 9 exabytes
        b"\x3a" + bytes(7) + b'{"w":{"dtype":"F32","shape":[999999999],"data_offsets":[0,4]}}',
    ],
)
def test_bytes_that_are_no_file_of_arrays_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="expected safetensors"):
        unpack(forged(data))


@settings(max_examples=100)
@given(data=st.binary(max_size=200), at=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_changed_bytes_give_arrays_or_one_error(data: bytes, at: int, byte: int) -> None:
    model = {"a": np.ones(3, np.float32), "b": np.zeros((2, 2), np.float32)}
    whole = bytearray(pack(record(model))[PACKED].data)
    whole[at % len(whole)] = byte
    for one in (bytes(whole), data, bytes(whole) + data):
        try:
            found = unpack(forged(one))
        except ProtocolError:
            continue
        assert all(isinstance(array.numpy(), np.ndarray) for array in found.values())
