import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError, ServiceError
from primia_flwr.inference.crypten.wire import pack, packed_bytes, unpack

shapes = st.lists(st.lists(st.integers(0, 4), max_size=4).map(tuple), max_size=4)


def message(*tensors: torch.Tensor) -> bytearray:
    return bytearray(b"".join(part.tobytes() for part in pack(tensors)))


def test_a_message_is_words_in_little_endian_order():
    body = message(torch.tensor([[7, -1]]))
    assert np.frombuffer(body, "<i8").tolist() == [1, 2, 1, 2, 7, -1]  # int64, 1 x 2, entries
    assert len(body) == packed_bytes([(1, 2)]) == 48


@given(shapes, st.integers(0, 2**32))
def test_tensors_come_back_as_they_were(shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    sent = [torch.randint(-(2**63), 2**63 - 1, s, generator=generator) for s in shapes]
    received = unpack(message(*sent), shapes)
    assert len(received) == len(sent)
    assert all(torch.equal(a, b) for a, b in zip(sent, received, strict=True))


def test_what_is_not_contiguous_travels_in_its_order():
    table = torch.arange(6).reshape(2, 3).t()
    assert torch.equal(unpack(message(table), [(3, 2)])[0], table)


@pytest.mark.parametrize(
    "expected",
    [[(3, 2)], [(6,)], [(2, 3), ()], [(2, 4)], []],
    ids=["turned", "flat", "one more", "longer", "nothing"],
)
def test_other_shapes_are_refused(expected):
    with pytest.raises(ProtocolError, match="do both parties run the same"):
        unpack(message(torch.zeros(2, 3, dtype=torch.int64)), expected)


@given(st.binary(max_size=64))
def test_any_bytes_give_a_tensor_or_an_error(body):
    try:
        (tensor,) = unpack(bytearray(body), [(2,)])
    except ProtocolError:
        return
    assert message(tensor) == body


def test_only_integers_travel():
    with pytest.raises(ServiceError, match=r"a tensor of torch.float32 .* expected int64"):
        pack([torch.zeros(1)])
