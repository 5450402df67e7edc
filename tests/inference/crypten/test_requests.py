"""Triples hold in the ring for every operation and shape; what is not in the table is refused."""

import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from primia_flwr.inference.crypten import requests as crypten_requests
from primia_flwr.inference.crypten.dealer import answer
from primia_flwr.inference.crypten.requests import MAX_REQUEST_BYTES, Request
from primia_flwr.inference.crypten.wire import pack

SEEDS = bytes(32), bytes([1] * 32)
sides = st.integers(1, 5)
shapes = st.lists(sides, max_size=4).map(tuple)


@st.composite
def convolutions(draw):
    groups, per_group, kernel = draw(st.integers(1, 2)), draw(sides), draw(st.integers(1, 3))
    left = (draw(sides), groups * per_group, draw(st.integers(5, 8)), draw(st.integers(5, 8)))
    stride, padding, dilation = (draw(st.integers(low, 2)) for low in (1, 0, 1))
    geometry = (stride, stride, padding, padding, dilation, dilation, groups)
    right = (groups * draw(sides), per_group, kernel, kernel)
    return Request(draw(st.integers(0, 2**64 - 1)), "conv2d", left, right, geometry)


requests = st.one_of(
    st.builds(Request, st.integers(0, 9), st.sampled_from(["square", "wraps", "bit"]), shapes),
    st.builds(
        lambda op, shape: Request(0, op, shape, shape), st.sampled_from(["mul", "and"]), shapes
    ),
    st.builds(lambda n, i, j, k: Request(n, "matmul", (i, j), (j, k)), sides, sides, sides, sides),
    convolutions(),
)


def opened(request: Request) -> tuple[list[list[torch.Tensor]], list[torch.Tensor]]:
    """Both parties' operands, and their shares of the result."""
    operands = [request.draw(seed) for seed in SEEDS]
    return operands, [request.draw_result(SEEDS[0]), request.correction(SEEDS)]


@given(requests)
def test_a_request_comes_back_as_it_was(request):
    raw = request.to_bytes()
    assert len(raw) <= MAX_REQUEST_BYTES
    assert Request.from_bytes(raw) == request


@settings(deadline=None)
@given(requests)
def test_shares_of_the_result_hold_the_result_of_the_operands(request):
    (first, second), (c0, c1) = opened(request)
    assert c0.shape == c1.shape == request.result
    op = request.operation
    if op == "and":
        a, b = (x ^ y for x, y in zip(first, second, strict=True))
        assert torch.equal(c0 ^ c1, a & b)
    elif op == "bit":
        assert set((first[0] | second[0]).flatten().tolist()) <= {0, 1}
        assert torch.equal(c0 + c1, first[0] ^ second[0])
    elif op == "wraps":
        total = [
            x + y
            for x, y in zip(first[0].flatten().tolist(), second[0].flatten().tolist(), strict=True)
        ]
        expected = [(t + 2**63) >> 64 for t in total]  # Python's integers do not wrap
        assert (c0 + c1).flatten().tolist() == expected
    else:
        a, *b = (x + y for x, y in zip(first, second, strict=True))
        stride, padding, dilation = (request.geometry[i : i + 2] for i in (0, 2, 4))
        expected = {
            "square": lambda: a * a,
            "mul": lambda: a * b[0],
            "matmul": lambda: (a.unsqueeze(-1) * b[0]).sum(-2),
            "conv2d": lambda: torch.conv2d(
                a, b[0], None, stride, padding, dilation, request.geometry[6]
            ),
        }
        assert torch.equal(c0 + c1, expected[op]())


def test_a_triple_known_by_hand(monkeypatch):
    """a = 2 + 1, b = 5 - 1, c_0 = 100: party 1 gets 12 - 100."""
    words = {(0, 0): 2, (0, 1): 5, (0, 2): 100, (1, 0): 1, (1, 1): -1}
    monkeypatch.setattr(
        crypten_requests,
        "_words",
        lambda seed, _, place, shape: torch.full(shape, words[seed[0], place]),
    )
    assert Request(0, "mul", (1,), (1,)).correction(SEEDS).tolist() == [-88]


def test_no_two_requests_share_a_mask():
    one = Request(3, "mul", (4,), (4,))
    others = [
        Request(4, "mul", (4,), (4,)),
        Request(3, "and", (4,), (4,)),
        Request(3, "mul", (4, 1), (4, 1)),
    ]
    drawn = [*one.draw(SEEDS[0]), one.draw_result(SEEDS[0]), one.draw(SEEDS[1])[0]]
    drawn += [other.draw(SEEDS[0])[0] for other in others]
    words = torch.cat([d.flatten()[:4] for d in drawn]).tolist()
    assert len(set(words)) == 4 * len(drawn)


def test_each_triple_is_dealt_once():
    raw = Request(5, "square", (2,)).to_bytes()
    assert len(answer(raw, 5, SEEDS)) == 16
    for number in (4, 6):
        with pytest.raises(ProtocolError, match=f"request 5 came; expected request {number}"):
            answer(raw, number, SEEDS)


@pytest.mark.parametrize(
    ("operation", "left", "right", "geometry"),
    [
        ("pow", (2,), (2,), crypten_requests.PLAIN),
        ("mul", (2,), (3,), crypten_requests.PLAIN),
        ("mul", (2,), (2,), (2, 2, 0, 0, 1, 1, 1)),
        ("square", (2,), (2,), crypten_requests.PLAIN),
        ("matmul", (2, 3), (2, 3), crypten_requests.PLAIN),
        ("conv2d", (1, 1, 3, 3), (1, 1, 5, 5), crypten_requests.PLAIN),
        ("conv2d", (1, 1, 3, 3), (1, 1, 3, 3), (0, 1, 0, 0, 1, 1, 1)),
        ("conv2d", (1, 1, 3, 3), (1, 1, 3, 3), (1, 1, 0, 0, 1, 1, 0)),
        ("conv2d", (1, 3, 3), (1, 1, 3, 3), crypten_requests.PLAIN),
        ("mul", (1 << 14, 1 << 14), (1,), crypten_requests.PLAIN),
        ("mul", (1 << 27, 1), (1, 1 << 27), crypten_requests.PLAIN),
        ("conv2d", (1, 1, 8192, 8192), (1, 1, 64, 64), crypten_requests.PLAIN),
        ("square", (0,), (), crypten_requests.PLAIN),
        ("square", (1,) * 9, (), crypten_requests.PLAIN),
    ],
)
def test_what_cannot_be_dealt_within_bounds_is_refused(operation, left, right, geometry):
    with pytest.raises(ProtocolError):
        Request(0, operation, left, right, geometry)


def test_broken_requests_are_refused():
    good = Request(1, "conv2d", (1, 1, 3, 3), (1, 1, 3, 3)).to_bytes()
    unknown = struct.pack("<QBBB", 0, 7, 0, 0)
    for raw in (b"", good[:-1], good + b"\0", good[:10], unknown):
        with pytest.raises(ProtocolError, match="a request"):
            Request.from_bytes(raw)


@given(st.binary(max_size=MAX_REQUEST_BYTES))
def test_any_bytes_are_one_request_or_an_error(raw):
    try:
        request = Request.from_bytes(raw)
    except ProtocolError:
        return
    assert request.to_bytes() == raw


def test_the_dealers_answer_is_plain_words():
    request = Request(0, "mul", (2,), (2,))
    assert answer(request.to_bytes(), 0, SEEDS) == pack([request.correction(SEEDS)])[1].tobytes()
