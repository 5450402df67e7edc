"""Frames: how messages follow one another on a link between two parties.

A frame is its kind (1 byte), the length of its body (8 bytes, big-endian), and the body. Kind 0
is an error: one sentence, after which the link is over. What is allocated follows from what came,
never from the length that a header claims.
"""

import struct
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primia_flwr.errors import ProtocolError

Part = bytes | bytearray | memoryview | NDArray[Any]

ERROR = 0
WELCOME = 255
MAX_ERROR_BYTES = 2000
HEADER_BYTES = 9
_HEADER = struct.Struct(">BQ")
# The body grows by this much at a time, so at most this is allocated ahead of what came (and an
# eighth of what came, by which a bytearray grows).
_STEP_BYTES = 1 << 18
_ZEROS = bytes(_STEP_BYTES)
# Parts up to this size are copied together: one record of TLS for what belongs together.
_SMALL_BYTES = 1 << 14


def frame(kind: int, parts: Iterable[Part]) -> deque[memoryview]:
    """Return a frame as pieces to be sent one after the other; big parts are not copied.

    `kind`: 0 to 255. `parts`: C-contiguous; their bytes, one after the other, are the body.
    """
    views = [part.data if isinstance(part, np.ndarray) else memoryview(part) for part in parts]
    small = bytearray(_HEADER.pack(kind, sum(view.nbytes for view in views)))
    pieces: deque[memoryview] = deque()
    for view in views:
        if view.nbytes > _SMALL_BYTES:
            pieces += [memoryview(small)] * bool(small) + [view.cast("B")]
            small = bytearray()
        elif view.nbytes:
            small += view.cast("B")
    if small:
        pieces.append(memoryview(small))
    return pieces


def printable(text: str) -> str:
    """Return one line without control characters, of at most `MAX_ERROR_BYTES` in UTF-8."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line.encode(errors="replace")[:MAX_ERROR_BYTES].decode(errors="ignore")


class FrameReader:
    """Takes in one frame after another, in pieces of any size.

    `expect` says what may come; then, while `wanted` is not 0, the next bytes go into `room()`
    and `arrived` says how many they were. Where no kind is expected, only a header is taken in,
    and an error's body: a frame that comes early keeps its header here and its body waits.
    """

    def __init__(self) -> None:
        self._header = bytearray(HEADER_BYTES)
        self._header_left = HEADER_BYTES
        self._body = bytearray()
        self._filled = 0
        self._length = 0
        self._kind = -1
        self._limits: Mapping[int, int] = {}

    @property
    def started(self) -> bool:
        """Whether a part of a frame has come, and not all of it."""
        return self._header_left < HEADER_BYTES

    @property
    def wanted(self) -> int:
        """How many bytes are still to come, as far as is known."""
        if self._header_left:
            return self._header_left
        if self._kind in self._limits or self._kind == ERROR:
            return self._length - self._filled
        return 0

    def expect(self, limits: Mapping[int, int]) -> None:
        """Set the kinds that may come next, with the most bytes that a body may have.

        Raises
        ------
        ProtocolError
            If a header that has come already says otherwise.
        """
        self._limits = limits
        self._check()

    def room(self) -> memoryview:
        """Return where the next bytes go: at least one, at most those that are wanted."""
        if self._header_left:
            return memoryview(self._header)[-self._header_left :]
        if self._filled == len(self._body):
            self._body += _ZEROS[: self._length - self._filled]
        return memoryview(self._body)[self._filled :]

    def arrived(self, count: int) -> None:
        """Take note of `count` bytes in the room that `room` gave.

        Raises
        ------
        ProtocolError
            If they complete a header of a kind that is not expected, or of too long a body.
        """
        if not self._header_left:
            self._filled += count
            return
        self._header_left -= count
        if not self._header_left:
            self._kind, self._length = _HEADER.unpack(self._header)
            self._check()

    def error(self) -> str | None:
        """Return the sentence of an error that has come whole, made printable."""
        if self._header_left or self._kind != ERROR or self.wanted:
            return None
        return printable(self._body.decode(errors="replace"))

    def take(self) -> tuple[int, bytearray]:
        """Return kind and body of a frame that has come whole, and begin the next."""
        kind, body = self._kind, self._body
        self._header_left, self._filled, self._body = HEADER_BYTES, 0, bytearray()
        return kind, body

    def progress(self) -> str:
        """Say how much of the frame has come, e.g. `5 of 16 bytes of a frame of kind 3`."""
        if self._header_left:
            return f"{HEADER_BYTES - self._header_left} of {HEADER_BYTES} bytes of a header"
        return f"{self._filled} of {self._length} bytes of a frame of kind {self._kind}"

    def _check(self) -> None:
        if self._header_left:
            return
        if self._kind == ERROR:
            at_most = MAX_ERROR_BYTES
        elif self._kind in self._limits:
            at_most = self._limits[self._kind]
        elif self._limits:
            kinds = " or ".join(str(kind) for kind in self._limits)
            raise ProtocolError(
                f"sent a frame of kind {self._kind}; expected kind {kinds}; do both parties run "
                "the same version and protocol?"
            )
        else:
            return
        if self._length > at_most:
            raise ProtocolError(
                f"sent a frame of kind {self._kind} with {self._length} bytes; expected at most "
                f"{at_most}; do both parties run the same version, protocol and model?"
            )
