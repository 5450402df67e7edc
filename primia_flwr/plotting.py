"""How every picture looks: system fonts, few colours, all readable in grey; and how it is written.

Lines differ in lightness and in dash, marks in shape, so nothing rests on hue alone.
"""

import html
import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, _FAINT = "#1b2733", "#5c6b7a", "#d9dfe5"
COLOURS = ("#12355b", "#b8621b", "#4f9d8f", "#7a3b69", "#8a8f2a", "#7fa3c7")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.2, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")
DOTTED: dict[str, Any] = {"color": MUTED, "linewidth": 1, "linestyle": (0, (2, 2))}
HATCHED: dict[str, Any] = {"color": "#9fb3c8", "edgecolor": "white", "hatch": "//"}
WIDE = 9.4  # inches: the width of the page
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": True,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
}


@dataclass(frozen=True)
class Plot:
    """One picture: `name` is its file name without ending, `svg` an <svg> element as text.

    `alt` says in words what it shows.
    """

    name: str
    svg: str
    alt: str

    def __html__(self) -> str:
        """Return the picture as it stands in a page."""
        return self.svg


@contextmanager
def drawing(
    width: float, height: float, rows: int = 1, columns: int = 1, *, grid: str = "y", **panels: Any
) -> Iterator[tuple[Figure, Any]]:
    """Give a figure in inches and its axes, an array of them if there are several, to draw into.

    `grid`: of which axis, x, y or both; none where empty. `panels`: as of `Figure.subplots`.
    """
    with mpl.rc_context(_style({"axes.grid": bool(grid), "axes.grid.axis": grid or "both"})):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(rows, columns, **panels)


def to_plot(name: str, figure: Figure, alt: str) -> Plot:
    """Turn a figure into SVG text: the same every time, its ids unlike those of other pictures."""
    buffer = io.StringIO()
    with mpl.rc_context(_style({"svg.hashsalt": f"primia-{name}"})):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)  # several pictures share one page
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*?sans-serif", "system-ui, sans-serif", svg)
    label = html.escape(alt, quote=True)
    return Plot(name, svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1), alt)


def write(figure: Figure, file: Path) -> None:
    """Write a figure into a file of its own, SVG or PNG by its name; the same every time.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    metadata = {"Date": None} if file.suffix == ".svg" else {}
    with mpl.rc_context(_style({"svg.hashsalt": "primia"})):
        figure.savefig(file, metadata=metadata)


def line_style(index: int, *, marker: bool = True) -> dict[str, Any]:
    """Return colour, dash and marker of a picture's index-th line."""
    marks = {"marker": MARKERS[index % len(MARKERS)]} if marker else {}
    colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
    return {"color": colour, "linestyle": dash, **marks}


def dark(start: str = "#f5f7f9") -> Any:
    """Return the map from 0 to 1 to a colour: the more, the darker."""
    return mpl.colors.LinearSegmentedColormap.from_list("ink", [start, COLOURS[0]])


def shade(axes: Axes, values: npt.NDArray[Any], texts: npt.NDArray[Any], **font: Any) -> None:
    """Draw a matrix (R, C) of shares from 0 to 1, the darker, the larger, with a text in each cell.

    Cells of NaN are left white.
    """
    axes.pcolormesh(
        np.ma.masked_invalid(values), cmap=dark(), vmin=0, vmax=1, edgecolor="white", linewidth=2
    )
    axes.invert_yaxis()
    centred: dict[str, Any] = {"ha": "center", "va": "center", **font}
    for (i, j), value in np.ndenumerate(values):
        axes.text(j + 0.5, i + 0.5, str(texts[i, j]), color=on_shade(value), **centred)
    axes.set_xticks(np.arange(values.shape[1]) + 0.5)
    axes.set_yticks(np.arange(values.shape[0]) + 0.5)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def on_shade(value: float) -> str:
    """Return the colour of a text that is read on a cell of `shade`."""
    return "white" if value > 0.5 else INK


def names_on_rows(panels: Sequence[Axes], names: Sequence[str]) -> None:
    """Write a name on each row of panels that share their y axis: the first one on top."""
    for axes in panels:
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    panels[0].set_yticks(range(len(names)), names[::-1], color=INK)


def roc_axes(axes: Axes) -> None:
    """Give axes the scales of a ROC curve, and the line of guessing."""
    axes.plot([0, 1], [0, 1], **DOTTED)
    axes.set(xlabel="1 − specificity", ylabel="sensitivity", aspect="equal")  # noqa: RUF001
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))


def legend_below(figure: Figure, axes: Axes, columns: int) -> int:
    """Name the lines of one panel once, below all; return how many rows that takes."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=min(columns, len(labels)))
    return math.ceil(len(labels) / columns)


def _style(changes: dict[str, Any]) -> Any:
    return {**_STYLE, **changes}
