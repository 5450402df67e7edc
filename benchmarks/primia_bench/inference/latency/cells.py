"""Which lines each protocol is measured on, and what was left out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

FSS, CRYPTEN, STOCK = "fss", "crypten", "stock"
SLOW = "moves 2 GB each way in minutes; --all measures it"
_NOT_ASKED = "not asked for yet; --merge adds it"


@dataclass(frozen=True)
class Cell:
    """One protocol, image size and line: `delay` one way in ms, `rate` each way in Mbit/s.

    A rate of None is bare loopback, with no relay in between.
    """

    protocol: str
    size: int
    delay: float
    rate: float | None

    @property
    def key(self) -> dict[str, Any]:
        """The cell as it stands in the JSON."""
        return {
            "protocol": self.protocol,
            "size": self.size,
            "delay_ms": self.delay,
            "rate_mbit": self.rate,
        }

    def images(self, most: int) -> int:
        """Return how many are measured, after one that warms up: one where that is slow."""
        return most if self.protocol == FSS and self.delay <= 10 else 1

    @property
    def is_slow(self) -> bool:
        """Whether it is left out unless asked for."""
        slow_line = self.rate is not None and self.rate < 1000
        return self.protocol == CRYPTEN and self.size >= 224 and slow_line

    def __str__(self) -> str:
        line = f"{self.delay:g} ms, {self.rate:g} Mbit/s" if self.rate else "bare loopback"
        return f"{self.protocol}, {self.size} px, {line}"


def grid(sizes: Sequence[int], delays: Sequence[float], rates: Sequence[float]) -> list[Cell]:
    """Return all cells of both protocols, bare loopback first, small images first."""
    lines: list[tuple[float, float | None]] = [(0.0, None)]
    lines += [(delay, rate) for rate in sorted(rates, reverse=True) for delay in delays]
    return [
        Cell(protocol, size, delay, rate)
        for size in sizes
        for protocol in (FSS, CRYPTEN)
        for delay, rate in lines
    ]


def left_out(cells: Iterable[Cell], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the cells that no row is of, with the reason; of slow ones, the least they take."""
    found = []
    for cell in cells:
        if any(cell.key.items() <= row.items() for row in rows):
            continue
        entry = {**cell.key, "why": SLOW if cell.is_slow else _NOT_ASKED}
        same = [r for r in rows if (r["protocol"], r["size"]) == (cell.protocol, cell.size)]
        if same and cell.is_slow and cell.rate:
            busiest = max(same[0]["megabytes_sent"].values())
            entry["seconds_at_least"] = round(busiest * 8 / cell.rate, 1)
        found.append(entry)
    return found
