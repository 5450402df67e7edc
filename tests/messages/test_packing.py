"""Packing: what is packed comes back, and nothing that is not a model does."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from primia_flwr.errors import ProtocolError
from primia_flwr.messages.held import held
from primia_flwr.messages.packing import PACKED, pack, pack_contents, unpack, unpack_content

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
    first, second = Message(content, 1, "train"), Message(content, 2, "train")
    pack_contents([first, second])
    assert [list(m.content.array_records["arrays"]) for m in (first, second)] == [[PACKED]] * 2
    assert first.content["arrays"] is second.content["arrays"]  # packed once, sent twice
    assert first.content["config"] == content["config"]
    unpack_content(first)
    assert first.content["arrays"]["layer60"].numpy().tolist() == [[60.0] * 3] * 2


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
