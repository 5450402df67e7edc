"""A clinic's day: images are classified as they come, over whatever happens to the lines.

A session stays open while nothing comes, its randomness made ahead, so that an image waits for
the computation alone. A session that breaks is followed by another one, with fresh randomness.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from primia_flwr.data.files.arrivals import Arrival, Arrivals
from primia_flwr.errors import DataError, PolicyRefusal, PrimiaError, ProtocolError, ServiceError
from primia_flwr.inference.service.data_owner import Session
from primia_flwr.inference.service.negotiation import Answer

_ATTEMPTS = 3
POLL_SECONDS = 0.25
FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds before it is tried to connect again
REFUSED_PAUSE = 60.0  # seconds before a model owner that takes no image now is asked again


class _Book(Protocol):
    """Where results go."""

    def add(self, arrival: Arrival, answer: Answer) -> None:
        """Take the answer for one image, scores (1, classes), or none after an audit."""

    def skip(self, arrival: Arrival, why: str) -> None:
        """Take note of an image that is not classified."""

    def save(self) -> bool:
        """See to it that all of this is on disk; False: not now, ask again later."""


@dataclass(frozen=True)
class Limits:
    """When a watch ends by itself: after `seconds`, or `idle` seconds without an image; 0: never.

    `idle` counts while no image waits.
    """

    seconds: float = 0.0
    idle: float = 0.0


class Watcher:
    """Has images classified as they come.

    Parameters
    ----------
    open_session : callable
        Opens an open-ended session for one image at a time.
    arrivals : Arrivals
        Where they come from.
    load : callable
        Returns the image of a file, normalised, (C, H, W) float.
    book : Book
        Where the results go.
    limits : Limits
        When it ends.
    say : callable
        Told in one sentence what happens to the session.
    breaks : callable
        A context in which it may be broken off: while it waits, or opens a session.
    pace : float
        After an answer, whatever comes next waits for the next multiple of so many seconds since
        then: when this party speaks again must not tell what an audit found. 0: it does not wait.
    """

    def __init__(
        self,
        open_session: Callable[[], Session],
        arrivals: Arrivals,
        load: Callable[[Path], Tensor],
        book: _Book,
        *,
        limits: Limits,
        say: Callable[[str], None] = lambda _: None,
        breaks: Callable[[], AbstractContextManager[None]] = nullcontext,
        pace: float = 0.0,
    ) -> None:
        self._open, self._arrivals, self._load, self._book = open_session, arrivals, load, book
        self._limits, self._say, self._breaks, self._pace = limits, say, breaks, pace
        self._queue: deque[Arrival] = deque()
        self._session: Session | None = None
        self._again = _Pause()
        self._next_look = self._not_before = 0.0
        self._is_there = True
        self._failed = 0

    @property
    def pending(self) -> tuple[Path, ...]:
        """The images that have come and are not done."""
        return tuple(arrival.path for arrival in self._queue)

    @property
    def waiting(self) -> int:
        """How many images there is randomness for."""
        return self._session.waiting if self._session is not None else 0

    def run(self) -> None:
        """Watch until a limit is reached.

        Raises
        ------
        PrimiaError
            If the first session cannot be opened, or a later one is with another model.
        """
        with self._breaks():
            self._session = self._open()
        started = self._last = time.monotonic()
        try:
            while not self._is_over(started):
                self._look()
                if self._can_go_on():
                    self._classify()
                else:
                    self._rest()
        finally:
            self._end_session()

    def _is_over(self, started: float) -> bool:
        now, limits = time.monotonic(), self._limits
        if limits.seconds and now - started >= limits.seconds:
            return True
        return bool(limits.idle and not self._queue and now - self._last >= limits.idle)

    def _look(self) -> None:
        """See what has come; it takes at most a tenth of the time, however large the folder."""
        started = time.monotonic()
        if started < self._next_look:
            return
        found = self._arrivals.look()
        now = time.monotonic()
        self._next_look = now + 9 * (now - started)
        again = {arrival.path for arrival in found}
        self._queue = deque(arrival for arrival in self._queue if arrival.path not in again)
        self._queue.extend(found)
        if self._queue:
            self._last = now
        self._check_folder()

    def _check_folder(self) -> None:
        """Say once if the folder has gone, or is there again."""
        is_there = self._arrivals.is_there
        if is_there != self._is_there:
            self._is_there = is_there
            where = "is there again" if is_there else "is gone; nothing comes until it is back"
            self._say(f"the folder {self._arrivals.root} {where}")

    def _can_go_on(self) -> bool:
        return (
            self._book.save()
            and bool(self._queue)
            and time.monotonic() >= self._not_before
            and self._session is not None
            and self._session.is_ready
        )

    def _rest(self) -> None:
        """Wait a little, and see to the session meanwhile."""
        with self._breaks():
            time.sleep(POLL_SECONDS)
        self._maintain()
        if (self._session is None or self._session.fading) and self._again.is_over:
            self._reconnect()

    def _maintain(self) -> None:
        if self._session is None:
            return
        try:
            self._session.maintain()
        except PrimiaError as error:
            self._lose(error)
            return
        if self._session.fading and not self._again.has_begun:
            self._again.begin()
            self._say(
                f"{self._session.fading}; {self._session.waiting} images can still be classified; "
                "connecting again"
            )

    def _reconnect(self) -> None:
        """Open another session; one that fades goes on until that has worked."""
        try:
            with self._breaks():
                fresh = self._open()
        except (ServiceError, ProtocolError) as error:
            self._again.begin(self._say, error)
            return
        self._end_session()
        self._session = fresh
        self._again.end()
        self._say("connected again, with fresh randomness")

    def _classify(self) -> None:
        """Have the image that has waited longest classified."""
        arrival, session = self._queue[0], self._session
        if session is None:
            return
        try:
            answer = session.classify(self._load(arrival.path)[None])
        except DataError as error:
            self._skip(str(error))
        except PolicyRefusal as refusal:
            self._refuse(refusal)
        except (ServiceError, ProtocolError) as error:
            self._failed += 1
            self._lose(error)
            if self._failed >= _ATTEMPTS:
                self._skip(f"{_ATTEMPTS} attempts have failed; the last one: {error}")
        else:
            self._take(arrival, answer)

    def _take(self, arrival: Arrival, answer: Answer) -> None:
        """Have an answer written down; what that takes must not tell what an audit found."""
        answered = time.monotonic()
        self._book.add(arrival, answer)
        self._done()
        self._not_before = 0.0
        if self._pace:
            with self._breaks():
                time.sleep(self._pace - (time.monotonic() - answered) % self._pace)

    def _skip(self, why: str) -> None:
        self._book.skip(self._queue[0], why)
        self._done()

    def _done(self) -> None:
        self._queue.popleft()
        self._failed = 0

    def _refuse(self, refusal: PolicyRefusal) -> None:
        """Keep session and images, and ask again later."""
        if not self._not_before:
            self._say(f"{refusal}; the images wait, the model owner is asked again")
        self._not_before = time.monotonic() + REFUSED_PAUSE

    def _lose(self, error: PrimiaError) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.abandon()
        if not self._again.has_begun:
            self._say(f"{error}; connecting again")
            self._again.begin()

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with session:
                pass  # it says goodbye


class _Pause:
    """Before the next attempt to connect: longer and longer, until a session has lasted."""

    def __init__(self) -> None:
        self._seconds = self._until = 0.0
        self._connected = time.monotonic()
        self._told = set[str]()
        self.has_begun = False

    @property
    def is_over(self) -> bool:
        """Whether it is time to try."""
        return time.monotonic() >= self._until

    def begin(
        self, say: Callable[[str], None] = lambda _: None, error: PrimiaError | None = None
    ) -> None:
        """Wait, longer than the last time; say why, where that is news."""
        now = time.monotonic()
        if not self.has_begun and now - self._connected > _LONGEST_PAUSE:
            self._seconds = 0.0
        self._seconds = min(max(2 * self._seconds, FIRST_PAUSE), _LONGEST_PAUSE)
        self._until = now + self._seconds
        self.has_begun = True
        if error is not None and str(error) not in self._told:
            self._told.add(str(error))
            say(f"{error}; trying again")

    def end(self) -> None:
        """Take note that the connection is made."""
        self._connected, self.has_begun = time.monotonic(), False
        self._told.clear()
