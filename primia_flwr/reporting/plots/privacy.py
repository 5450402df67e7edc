"""The picture of `primia privacy plan`: noise over epochs, one line for each epsilon."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.ticker import NullLocator

from primia_flwr.errors import DataError
from primia_flwr.plotting import drawing, line_style, write


def draw_noise(
    lines: Mapping[float, tuple[Sequence[float], Sequence[float]]], output: Path
) -> None:
    """Draw epochs against noise multipliers into an SVG or PNG file.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    with drawing(6.4, 3.8, grid="both") as (figure, axes):
        for index, (epsilon, (epochs, noise)) in enumerate(sorted(lines.items())):
            axes.plot(epochs, noise, label=f"epsilon {epsilon:g}", **line_style(index))
        axes.set(xscale="log", xlabel="epochs", ylabel="noise multiplier")
        axes.set_ylim(bottom=0)
        ticks = sorted({value for epochs, _ in lines.values() for value in epochs})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.legend()
    try:
        write(figure, output)
    except OSError as error:
        raise DataError(
            f"output={output} cannot be written ({error.strerror}); expected a writable folder"
        ) from None
