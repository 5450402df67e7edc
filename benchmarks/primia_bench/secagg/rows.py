"""The lines of the table of figures."""

import sys
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """A figure that may not pass its bound, or must reach it: `holds` says whether it does.

    `timed`: the figure depends on the machine and what else it does.
    """

    part: str
    what: str
    figure: float
    bound: float
    holds: bool
    timed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON, rounded."""
        rounded = {key: float(f"{getattr(self, key):.7g}") for key in ("figure", "bound")}
        return {**asdict(self), **rounded}


def at_most(part: str, what: str, figure: float, bound: float, *, timed: bool = False) -> Row:
    """Return the row of a figure that may not pass its bound."""
    return Row(part, what, figure, bound, figure <= bound, timed)


def at_least(part: str, what: str, figure: float, bound: float, *, timed: bool = False) -> Row:
    """Return the row of a figure that must reach its bound."""
    return Row(part, what, figure, bound, figure >= bound, timed)


def say(line: str) -> None:
    """Report progress to whoever waits."""
    print(line, file=sys.stderr, flush=True)
