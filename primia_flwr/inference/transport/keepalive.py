"""Lines on which nobody speaks for hours: kept open, and a peer that has gone is noticed.

Who connected says `ALIVE` while it waits; who listens says it back. So an idle line carries
something every `ALIVE_SECONDS`, in both directions, and whoever has heard nothing for
`SILENCE_SECONDS` ends the session: by then a machine without power, a cut line, or a process that
hangs is noticed. A process that ends is noticed at once: its system closes the line.
"""

import time
from collections.abc import Mapping

from primia_flwr.errors import ServiceError
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.messages import Kind

ALIVE_SECONDS = 20.0
SILENCE_SECONDS = 90.0
FIRST_WORD_SECONDS = 10.0  # in which who has connected must say what it wants
LOOK_SECONDS = 1.0  # how often one looks while one waits for something else

_Frame = tuple[int, bytearray]


class Keepalive:
    """The part of the side that connected.

    Parameters
    ----------
    channel : Channel
        Whose peer answers `ALIVE` while it waits for this party, as `Answering` does.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._said = time.monotonic()
        self._unanswered: float | None = None

    def look(self) -> None:
        """Say `ALIVE` if it is time, and see whether the peer is still there; do not wait.

        Only while the peer waits for this party.

        Raises
        ------
        ServiceError
            If the peer has gone, has ended the session, or is silent.
        """
        self._step({}, 0.0)

    def wait_for(self, kind: int, *, at_most: int) -> bytearray:
        """Return the body of a frame that may be long in coming; keep the line alive meanwhile.

        Raises
        ------
        ProtocolError, ServiceError
            As `Channel.receive` and `look`.
        """
        while (heard := self._step({kind: at_most}, LOOK_SECONDS)) is None:
            pass
        return heard[1]

    def receive_any(self, limits: Mapping[int, int]) -> _Frame:
        """Return the next frame that is not an answer to `ALIVE`, as `Channel.receive_any`."""
        while True:
            kind, body = self._channel.receive_any({**limits, Kind.ALIVE: 0})
            self._unanswered = None
            if kind != Kind.ALIVE:
                return kind, body

    def _step(self, limits: Mapping[int, int], wait: float) -> _Frame | None:
        """Return a frame that begins within `wait` seconds; else see to the line."""
        while (heard := self._channel.poll({**limits, Kind.ALIVE: 0}, wait)) is not None:
            self._unanswered = None
            if heard[0] != Kind.ALIVE:
                return heard
        self._keep_alive(time.monotonic())
        return None

    def _keep_alive(self, now: float) -> None:
        if self._unanswered is not None and now - self._unanswered > SILENCE_SECONDS:
            raise _silent(self._channel)
        if now - self._said >= ALIVE_SECONDS:
            self._channel.send(Kind.ALIVE)
            self._said = now
            if self._unanswered is None:
                self._unanswered = now


class Answering:
    """The part of the side that listens, while it waits for its peer."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._heard = time.monotonic()

    def poll(self, limits: Mapping[int, int], wait: float) -> _Frame | None:
        """Return a frame of `limits`, or None if none begins within `wait` seconds.

        Raises
        ------
        ProtocolError, ServiceError
            As `Channel.receive`; if the peer has been silent for `SILENCE_SECONDS`.
        """
        heard = self._channel.poll({**limits, Kind.ALIVE: 0}, wait)
        now = time.monotonic()
        if heard is not None:
            self._heard = now
            if heard[0] != Kind.ALIVE:
                return heard
            self._channel.send(Kind.ALIVE)
        elif now - self._heard > SILENCE_SECONDS:
            raise _silent(self._channel)
        return None


def _silent(channel: Channel) -> ServiceError:
    return ServiceError(
        f"{channel.peer} has said nothing for {SILENCE_SECONDS:g} s; expected a sign of life every "
        f"{ALIVE_SECONDS:g} s; is it still running, and the line good enough?"
    )
