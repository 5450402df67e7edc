"""The decoder of frames, without a link: any stream, cut anyhow."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from primia_flwr.inference.transport.frames import FrameReader, Part, frame, printable

BODIES = st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=300)), max_size=6)


def feed(reader: FrameReader, stream: bytes, cuts: list[int]) -> bytes:
    """Give the reader what it wants of a stream, in pieces up to the cuts; return the rest."""
    position = 0
    for start, end in pairwise([0, *sorted(cuts), len(stream)]):
        assert position >= start or not reader.wanted
        while reader.wanted and position < end:
            room = reader.room()
            assert 0 < len(room) <= reader.wanted
            count = min(len(room), end - position)
            room[:count] = stream[position : position + count]
            room.release()
            reader.arrived(count)
            position += count
    return stream[position:]


@given(BODIES, st.lists(st.integers(0, 2000), max_size=8))
def test_frames_come_back_however_they_are_cut(
    bodies: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(bytes(piece) for kind, body in bodies for piece in frame(kind, [body]))
    reader = FrameReader()
    for kind, body in bodies:
        reader.expect({kind: 300})
        before = len(stream)
        stream = feed(reader, stream, [min(cut, before) for cut in cuts])
        assert reader.take() == (kind, body)
        assert before - len(stream) == 9 + len(body)
    assert stream == b""


@given(
    st.one_of(st.binary(max_size=100), st.binary(max_size=3).map(lambda b: b + bytes(8) + b * 99)),
    st.dictionaries(st.integers(1, 255), st.integers(0, 1 << 62), max_size=255),
    st.lists(st.integers(0, 100), max_size=5),
)
def test_random_bytes_never_crash_hang_or_allocate(
    stream: bytes, limits: dict[int, int], cuts: list[int]
) -> None:
    reader = FrameReader()
    try:
        reader.expect(limits)
        feed(reader, stream, [min(cut, len(stream)) for cut in cuts])
        message = reader.error()
    except ProtocolError:
        return
    assert len(reader._body) <= (1 << 18) + len(stream)
    if len(stream) >= 9 and message is None and stream[0] in limits:
        length = int.from_bytes(stream[1:9], "big")
        assert reader.wanted == max(0, length - (len(stream) - 9))


@given(st.lists(st.one_of(st.binary(max_size=40), st.just(bytes(20_000))), max_size=6))
def test_small_parts_are_joined_and_big_ones_are_not_copied(parts: list[Part]) -> None:
    pieces = frame(200, parts)
    body = b"".join(bytes(part) for part in parts)
    assert b"".join(bytes(piece) for piece in pieces) == struct.pack(">BQ", 200, len(body)) + body
    big = sum(len(part) > 16_384 for part in parts)
    assert sum(len(piece) > 16_384 for piece in pieces) == big
    assert len(pieces) <= 2 * big + 1


@given(st.text(max_size=3000))
def test_any_text_is_made_printable(text: str) -> None:
    line = printable(text)
    assert line.isprintable()
    assert len(line.encode()) <= 2000
    assert printable(line) == line
