"""One picture a class: each case as it is, and with the outline of what spoke for the answer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
from matplotlib.axes import Axes

from primia_flwr.evaluation.explain.cases import ExplainedCase, Explanation
from primia_flwr.plotting import INK, MUTED, WIDE, Plot, drawing, to_plot

# share of the map's maximum -> dash; a white line below a dark one shows on any background
_LEVELS = {0.5: (0, (2.5, 1.5)), 0.8: "-"}


def saliency_plots(explanation: Explanation) -> list[Plot]:
    """Return a picture for every class that has cases, in the order of the cases."""
    labels = list(dict.fromkeys(case.label for case in explanation.cases))
    return [
        _of_class(f"saliency-{number}", [c for c in explanation.cases if c.label == label])
        for number, label in enumerate(labels, start=1)
    ]


def _of_class(name: str, cases: Sequence[ExplainedCase]) -> Plot:
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
                    _draw(plain, mapped, case)
    words = "; ".join(
        f"line {c.row} of the predictions, predicted {c.predicted} with {100 * c.confidence:.0f} %"
        for c in cases
    )
    return to_plot(
        name,
        figure,
        f"Test images of class {cases[0].label}, each beside itself with the outline of its "
        f"Grad-CAM map: {words}.",
    )


def _draw(plain: Axes, mapped: Axes, case: ExplainedCase) -> None:
    for axes in (plain, mapped):
        axes.imshow(case.image, cmap="gray", vmin=0, vmax=255, interpolation="none")
    verdict = "right" if case.right else f"wrong: {case.predicted}"
    plain.set_title(f"{verdict}, {100 * case.confidence:.0f} %", color=INK)
    mapped.set_title(f"image {case.row}", color=MUTED, fontweight="normal")
    heat = case.heat.astype(np.float64) / 255
    if heat.max() == 0:
        mapped.set_title("nothing spoke for it", color=MUTED, fontweight="normal")
        return
    for level, dash in _LEVELS.items():
        if heat.min() < level:
            for colour, width in (("white", 3.2), ("black", 1.3)):
                mapped.contour(
                    heat, levels=[level], colors=colour, linewidths=width,
                    linestyles=["-" if colour == "white" else dash],
                )  # fmt: skip
