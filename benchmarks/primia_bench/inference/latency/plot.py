"""Latency against delay, as an SVG file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from primia_bench.inference.latency.cells import CRYPTEN, FSS
from primia_flwr.plotting import COLOURS, DASHES, INK, MARKERS, drawing, write

Row = dict[str, Any]


def draw(rows: Sequence[Row], stock: Sequence[Row], file: Path) -> None:
    """Draw seconds online against the one-way delay, a panel for each size; all in one file."""
    sizes = sorted({row["size"] for row in rows})
    if not sizes:
        return
    with drawing(4.7 * len(sizes), 4.0, 1, len(sizes), squeeze=False) as (figure, (panels,)):
        for axes, size in zip(panels, sizes, strict=True):
            _panel(axes, [row for row in rows if row["size"] == size])
            for row in stock:
                if row["size"] == size:
                    label = "CrypTen as shipped, bare loopback"
                    axes.plot(0, row["seconds"], "*", color=INK, markersize=11, label=label)
            axes.set_title(f"{size} x {size} pixels")
        panels[0].set_ylabel("seconds online for an image")
        named = dict(zip(*_legend(panels)[::-1], strict=True))
        figure.legend(named.values(), named.keys(), loc="outside lower left", ncols=3)
    write(figure, file)


def _panel(axes: Axes, rows: Sequence[Row]) -> None:
    lines = sorted({row["rate_mbit"] for row in rows if row["rate_mbit"]}, reverse=True)
    for colour, protocol in zip(COLOURS, (FSS, CRYPTEN), strict=False):
        for dash, marker, rate in zip(DASHES, MARKERS, lines, strict=False):
            points = sorted(
                (row["delay_ms"], row["online_seconds"])
                for row in rows
                if row["protocol"] == protocol and row["rate_mbit"] == rate
            )
            if points:
                label = f"protocol={protocol}, {rate:g} Mbit/s"
                x, y = zip(*points, strict=True)
                axes.plot(x, y, color=colour, linestyle=dash, marker=marker, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(_minor))
    axes.set_xlabel("one-way delay, ms")
    axes.set_xticks(sorted({row["delay_ms"] for row in rows}))


def _minor(value: float, _: int | None) -> str:
    """Name 2 and 5 of each decade."""
    return f"{value:g}" if f"{value:.0e}"[0] in "25" else ""


def _legend(panels: Any) -> tuple[list[Any], list[str]]:
    handles, labels = [], []
    for axes in panels:
        some = axes.get_legend_handles_labels()
        handles += some[0]
        labels += some[1]
    return handles, labels
