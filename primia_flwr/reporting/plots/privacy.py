"""The picture of `primia privacy plan`: noise over epochs, one line for each epsilon."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from primia_flwr.errors import DataError
from primia_flwr.reporting.plots.run import COLOURS, DASHES, FAINT, INK, MARKERS, MUTED

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "primia-privacy-plan",
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "legend.frameon": False,
}


def draw_noise(
    lines: Mapping[float, tuple[Sequence[float], Sequence[float]]], output: Path
) -> None:
    """Draw epochs against noise multipliers into an SVG or PNG file.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.subplots()
        for index, (epsilon, (epochs, noise)) in enumerate(sorted(lines.items())):
            axes.plot(
                epochs,
                noise,
                color=COLOURS[index % len(COLOURS)],
                linestyle=DASHES[index % len(DASHES)],
                marker=MARKERS[index % len(MARKERS)],
                label=f"epsilon {epsilon:g}",
            )
        axes.set(xscale="log", xlabel="epochs", ylabel="noise multiplier")
        axes.set_ylim(bottom=0)
        ticks = sorted({value for epochs, _ in lines.values() for value in epochs})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.legend()
        try:
            figure.savefig(output, metadata={"Date": None} if output.suffix == ".svg" else {})
        except OSError as error:
            raise DataError(f"output={output} cannot be written ({error.strerror})") from None
