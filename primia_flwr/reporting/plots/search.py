"""The pictures of a federated search: its history, and what the configurations were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from primia_flwr.plotting import COLOURS, MARKERS, MUTED, Plot, drawing, to_plot
from primia_flwr.reporting.plots.parallel import parallel_plot
from primia_flwr.tasks.task import Metric

_MOST_KEYS = 8  # axes in the picture of the values


def draw_history(found: Mapping[str, Any], aim: Metric) -> Plot | None:
    """Draw what each configuration reached at each rung over its rounds; the chosen one bold."""
    lines = [entry for entry in found["configurations"] if entry["rungs"]]
    if not lines:
        return None
    with drawing(7.4, 3.4, grid="both") as (figure, axes):
        for entry in lines:
            own = entry["configuration"] == found["chosen"]
            axes.plot(
                [rung["rounds"] for rung in entry["rungs"]],
                [rung[aim.name] for rung in entry["rungs"]],
                linewidth=2.6 if own else 0.9,
                linestyle="-" if entry["configuration"] else (0, (4, 2)),
                **_mark(own, 6 if own else 3.5),
            )
        axes.set(xlabel="rounds of the configuration", ylabel=f"validation {aim.words}")
        axes.set_xticks([rung["rounds"] for rung in found["rungs"]])
        axes.set_title("Best model of each configuration at each rung")
    after = ", ".join(str(rung["rounds"]) for rung in found["rungs"])
    return to_plot(
        "search-history",
        figure,
        f"Line chart: validation {aim.words} of {len(lines)} configurations after {after} rounds "
        "of their own. The chosen one is bold, the experiment's own dashed.",
    )


def draw_parallel(found: Mapping[str, Any], names: Sequence[str], aim: Metric) -> Plot | None:
    """Draw the configurations that took the first rung over the axes of some keys of the space."""
    lines = [
        (entry["values"], float(entry["rungs"][0][aim.name]))
        for entry in found["configurations"]
        if entry["values"] and entry["rungs"]
    ]
    if len(lines) < 2 or not names:
        return None
    of = "configurations after the first rung"
    return parallel_plot(lines, names, found["space"], aim, of=of)


def draw_values(found: Mapping[str, Any], aim: Metric) -> Plot | None:
    """Draw the numbers of the space against the objective after the first rung, a panel a key."""
    entries = [entry for entry in found["configurations"] if entry["values"] and entry["rungs"]]
    keys = [key for key, spec in found["space"].items() if "low" in spec][:_MOST_KEYS]
    if len(entries) < 2 or not keys:
        return None
    columns = min(4, len(keys))
    rows = -(-len(keys) // columns)
    shape = {"sharey": True, "squeeze": False}
    with drawing(7.4, 2.0 * rows + 0.3, rows, columns, grid="both", **shape) as (figure, panels):
        for axes in panels.flat[len(keys) :]:
            axes.set_visible(False)
        for axes, key in zip(panels.flat, keys, strict=False):
            _panel(axes, key, found, entries, aim)
        for axes in panels[:, 0]:
            axes.set_ylabel(aim.title)
    return to_plot(
        "search-values",
        figure,
        f"{len(keys)} scatter charts: values of {', '.join(keys)} against the validation "
        f"{aim.words} after the first rung; a large round mark is the chosen configuration.",
    )


def _panel(axes: Axes, key: str, found: Mapping[str, Any], entries: list[Any], aim: Metric) -> None:
    for entry in entries:
        own = entry["configuration"] == found["chosen"]
        reached = entry["rungs"][0][aim.name]
        axes.plot(entry["values"][key], reached, **_mark(own, 8 if own else 4))
    if found["space"][key].get("log"):
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    name = key.rpartition(".")[2]
    section = key.removesuffix(f".{name}").rpartition(".")[2]
    axes.set_title(name if section == "training" else f"{section} {name}", fontsize=9, loc="left")
    axes.tick_params(labelsize=7)


def _mark(own: bool, size: float) -> dict[str, Any]:
    """Return how the chosen configuration stands out from the others."""
    colour, marker = (COLOURS[0], MARKERS[0]) if own else (MUTED, MARKERS[1])
    return {"color": colour, "marker": marker, "markersize": size, "zorder": 3 if own else 2}
