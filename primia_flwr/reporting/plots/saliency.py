"""One picture a class: each case as it is, and with the outline of what spoke for the answer.

Inside the outlines is hatched, so that nobody takes the outside for it. No outline is drawn where
a map has too few cells, is flat, or has nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from primia_flwr.evaluation.explain.cases import ENOUGH_CELLS, ExplainedCase, Explanation
from primia_flwr.plotting import INK, MUTED, WIDE, Plot, drawing, to_plot
from primia_flwr.statistics.arrays import FloatArray

# share of the map's maximum -> dash; a white line below a dark one shows on any background
_LEVELS = {0.5: (0, (2.5, 1.5)), 0.8: "-"}
_HALF = min(_LEVELS)
_HATCHES = 18  # lines along a side
_Segments = list[tuple[tuple[float, float], tuple[float, float]]]


def saliency_plots(explanation: Explanation) -> list[Plot]:
    """Return a picture for every class that has cases, in the order of the cases."""
    labels = list(dict.fromkeys(case.label for case in explanation.cases))
    return [
        _of_class(
            f"saliency-{number}",
            [c for c in explanation.cases if c.label == label],
            explanation.map_side,
        )
        for number, label in enumerate(labels, start=1)
    ]


def _without_outline(case: ExplainedCase, map_side: int) -> str:
    """Return why a case's map is not drawn; empty where it is."""
    if case.heat.max() == 0:
        return "nothing spoke for it"
    if map_side < ENOUGH_CELLS:
        return f"map too coarse: {map_side} x {map_side} cells"
    if case.heat.min() >= _HALF * case.heat.max():
        return "map is flat: no place stands out"
    return ""


def _of_class(name: str, cases: Sequence[ExplainedCase], map_side: int) -> Plot:
    right = [case for case in cases if case.right]
    wrong = [case for case in cases if not case.right]
    rows = list(zip_longest(right, wrong))
    with drawing(WIDE, 2.75 * len(rows), len(rows), 4, grid="", squeeze=False) as (figure, panels):
        for axes in panels.flat:
            axes.set_axis_off()
        for half, group, word in ((0, right, "right"), (2, wrong, "wrong")):
            if not group:
                panels[0, half].set_title(f"none predicted {word}", color=MUTED)
        for line, pair in zip(panels, rows, strict=True):
            for (plain, mapped), case in zip((line[:2], line[2:]), pair, strict=True):
                if case is not None:
                    _draw(plain, mapped, case, map_side)
    words = "; ".join(
        f"line {c.row} of the predictions, predicted {c.predicted} with {100 * c.confidence:.0f} %"
        + (f" ({why})" if (why := _without_outline(c, map_side)) else "")
        for c in cases
    )
    return to_plot(
        name,
        figure,
        f"Test images of class {cases[0].label}, each beside itself with the outline of its "
        f"Grad-CAM map, hatched inside: {words}.",
    )


def _draw(plain: Axes, mapped: Axes, case: ExplainedCase, map_side: int) -> None:
    for axes in (plain, mapped):
        axes.imshow(case.image, cmap="gray", vmin=0, vmax=255, interpolation="none")
    verdict = "right" if case.right else f"wrong: {case.predicted}"
    plain.set_title(f"{verdict}, {100 * case.confidence:.0f} %", color=INK)
    why = _without_outline(case, map_side)
    title = why or f"image {case.row}, inside hatched"
    mapped.set_title(title, color=MUTED, fontweight="normal", fontsize=9 if why else 10)
    if not why:
        _outline(mapped, case.heat.astype(np.float64) / case.heat.max())


def _outline(axes: Axes, heat: FloatArray) -> None:
    inside = [*_hatching(heat, min(_LEVELS)), *_hatching(heat[::-1], max(_LEVELS), flipped=True)]
    for colour, line, hatch in (("white", 3.2, 1.8), ("black", 1.3, 0.6)):
        axes.add_collection(LineCollection(inside, colors=colour, linewidths=hatch))
        for level, dash in _LEVELS.items():
            axes.contour(
                heat, levels=[level], colors=colour, linewidths=line,
                linestyles=["-" if colour == "white" else dash],
            )  # fmt: skip


def _hatching(heat: FloatArray, level: float, *, flipped: bool = False) -> _Segments:
    """Return diagonal strokes where a map (H, W) reaches a level, as (x, y) from and to."""
    height, width = heat.shape
    found: _Segments = []
    for offset in range(1 - width, height, max(1, height // _HATCHES)):
        x = np.arange(max(0, -offset), min(width, height - offset))
        steps = np.flatnonzero(np.diff(np.concatenate(([0], heat[x + offset, x] >= level, [0]))))
        for start, stop in zip(x[0] + steps[::2], x[0] + steps[1::2] - 1, strict=True):
            ends = [(float(end), float(end + offset)) for end in (start, stop)]
            if flipped:
                ends = [(u, height - 1 - v) for u, v in ends]
            found.append((ends[0], ends[1]))
    return found
