"""Which decoding calls are made when the targets read their own examples, as seen by Python."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from primia_flwr.errors import PrimiaError
from tests.fuzz.loaders.discovery import ROOT, Site
from tests.fuzz.loaders.target import Made


class Watch:
    """The lines of decoding calls that were run; `reached` holds those calls."""

    def __init__(self, sites: list[Site]) -> None:
        self._by_line: dict[str, dict[int, list[Site]]] = defaultdict(lambda: defaultdict(list))
        for site in sites:
            for line in range(site.line, site.last + 1):
                self._by_line[str(ROOT / site.file)][line].append(site)
        self.reached: set[Site] = set()

    @contextmanager
    def watching(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        lines = self._by_line.get(frame.f_code.co_filename)
        if lines is None:
            return None

        def line_of(inner: FrameType, event: str, argument: Any) -> Callable[..., Any]:
            self.reached.update(lines.get(inner.f_lineno, ()))
            return line_of

        return line_of


def reached_by(made: Made, sites: list[Site]) -> set[Site]:
    """Return the decoding calls that a target makes on its examples.

    Raises
    ------
    AssertionError
        If it does not accept them: then the fuzzer would feed refusals only.
    """
    watch = Watch(sites)
    for number, raw in enumerate(made.seeds):
        try:
            with watch.watching():
                made.load(raw)
        except PrimiaError as error:
            raise AssertionError(f"{made.load}: example {number} is refused: {error}") from error
    return watch.reached


def relative(path: str) -> str:
    """Return a path below the checkout, for a report."""
    return str(Path(path).relative_to(ROOT)) if path.startswith(str(ROOT)) else Path(path).name
