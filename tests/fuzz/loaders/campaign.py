"""Feed targets with changed examples for some seconds; what they may raise is a `PrimiaError`.

A finding is any other exception, a refusal that is not one short line which a terminal can show,
more than `MAX_SECONDS_OF_ONE` seconds or more than `MAX_MEMORY_MIB` of new memory for one input.
The shortest input of each kind of finding is kept.
"""

from __future__ import annotations

import random
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from primia_flwr.errors import PrimiaError
from tests.fuzz.loaders.changes import Changer
from tests.fuzz.loaders.discovery import PACKAGES, ROOT
from tests.fuzz.loaders.target import Made

MAX_SECONDS_OF_ONE = 10
MAX_MEMORY_MIB = 1024
MAX_SENTENCE = 2000
ALLOWED_MIB = 2048  # of new address space for one input
_KEPT = 40  # accepted inputs of a target from which further ones are made


class Hang(BaseException):
    """An input takes too long; no loader's `except Exception` may catch this."""


@dataclass
class Count:
    """What a target was given; `seconds` of wall time, changing the examples included."""

    executions: int = 0
    accepted: int = 0
    seconds: float = 0.0
    slowest: float = 0.0


@dataclass
class Campaign:
    """Targets that are ready, and what came of feeding them.

    `current`: a file that always holds the input that is being read, for the case that the process
    dies of it.
    """

    targets: Mapping[str, Made]
    draw: random.Random
    current: Path | None = None
    counts: dict[str, Count] = field(default_factory=dict)
    findings: dict[tuple[str, str, str], tuple[bytes, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._changer = Changer(self.draw)
        self._pools = {name: [*made.seeds, *made.odd] for name, made in self.targets.items()}
        self._fixed = {name: len(pool) for name, pool in self._pools.items()}
        self.counts = {name: Count() for name in self.targets}

    def run_for(self, seconds: float) -> None:
        """Feed all targets, each for its share of the time."""
        for name in self.targets:
            for raw in self._pools[name][: self._fixed[name]]:
                self.feed(name, raw)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.step(min(self.counts, key=self._time_had))

    def _time_had(self, name: str) -> float:
        return self.counts[name].seconds / self.targets[name].share

    def run_each(self, times: int) -> None:
        """Feed every target so many times; the same inputs for the same `draw`."""
        for name in self.targets:
            for _ in range(times):
                self.step(name)

    def step(self, name: str) -> None:
        """Change an example of a target and feed it."""
        made, began = self.targets[name], time.monotonic()
        raw = self._changer.change(self.draw.choice(self._pools[name]))
        if made.repair and self.draw.random() < 0.7:
            with suppress(Exception):  # a change may leave nothing to repair
                raw = made.repair(raw)
        self.counts[name].seconds += time.monotonic() - began
        if self.feed(name, raw):
            self._keep(name, raw)

    def feed(self, name: str, raw: bytes) -> bool:
        """Give bytes to a target; say whether it accepted them."""
        if self.current:
            self.current.write_bytes(name.encode() + b"\n" + raw)
            limit_memory()
        warnings.simplefilter("ignore")
        count, before = self.counts[name], _peak_mib()
        began, accepted = time.monotonic(), False
        try:
            with _no_longer_than(MAX_SECONDS_OF_ONE):
                self.targets[name].load(raw)
            accepted = True
        except PrimiaError as error:
            if len(str(error)) > MAX_SENTENCE or not str(error).isprintable():
                self._found(name, raw, "Sentence", _where(error), ascii(str(error)))
        except (Exception, Hang) as error:
            self._found(name, raw, type(error).__name__, _where(error), str(error))
        if (grown := _peak_mib() - before) > MAX_MEMORY_MIB:
            self._found(name, raw, "Memory", "", f"{grown} MiB")
        took = time.monotonic() - began
        count.executions += 1
        count.accepted += accepted
        count.seconds += took
        count.slowest = max(count.slowest, took)
        return accepted

    def _keep(self, name: str, raw: bytes) -> None:
        """Start from accepted inputs, too: changes add up."""
        pool, fixed = self._pools[name], self._fixed[name]
        if len(pool) < fixed + _KEPT:
            pool.append(raw)
        else:
            pool[fixed + self.draw.randrange(_KEPT)] = raw

    def _found(self, name: str, raw: bytes, kind: str, where: str, text: str) -> None:
        known = self.findings.get((name, kind, where))
        if known is None or len(raw) < len(known[0]):
            self.findings[name, kind, where] = (raw, " ".join(text.split())[:200])


@contextmanager
def _no_longer_than(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def limit_memory() -> None:
    """Have a request for far too much memory fail at once; not for what a process keeps."""
    pages = Path("/proc/self/statm")
    if pages.exists():
        now = int(pages.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (now + (ALLOWED_MIB << 20), hard))


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _where(error: BaseException) -> str:
    """Return the innermost line of the product that an error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(frame.filename)]
    last = (own or frames)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def _is_own(file: str) -> bool:
    return any(file.startswith(f"{ROOT / package}/") for package in PACKAGES)


def report(findings: Mapping[tuple[str, str, str], tuple[bytes, str]]) -> Sequence[str]:
    """Return a line for each finding."""
    return [
        f"{name}: {kind} at {where or 'no line'} for {len(raw)} bytes: {text}"
        for (name, kind, where), (raw, text) in sorted(findings.items())
    ]
