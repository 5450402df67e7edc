"""The picture grid: of each arm the originals above their reconstructions."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from primia_flwr.attacks.inversion.scoring.scores import Pair

_MOST = 8  # pairs a row of the grid


def grid(pairs: Sequence[Pair], *, synthetic: bool) -> bytes:
    """Return a PNG: for each arm a row of originals and one of reconstructions with their SSIM.

    Of each arm the first eight pairs are shown, in the order of the updates.
    """
    arms = list(dict.fromkeys(pair.arm for pair in pairs))
    shown = {arm: [p for p in pairs if p.arm == arm][:_MOST] for arm in arms}
    columns = max(len(own) for own in shown.values())
    figure = Figure(figsize=(1.25 * columns + 1.4, 2.75 * len(arms) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * len(arms), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for index, arm in enumerate(arms):
        for column, pair in enumerate(shown[arm]):
            _draw(axes[2 * index][column], pair.original, "")
            _draw(axes[2 * index + 1][column], pair.reconstruction, f"{pair.likeness.ssim:.2f}")
        for row, words in ((2 * index, "original"), (2 * index + 1, "reconstruction, SSIM")):
            axes[row][0].text(
                -0.08, 0.5, f"{arm}\n{words}", transform=axes[row][0].transAxes,
                ha="right", va="center", fontsize=8,
            )  # fmt: skip
    if synthetic:
        figure.suptitle("synthetic images, of no patient", fontsize=9)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=150, metadata={"Software": None})
    return out.getvalue()


def _draw(axis: Any, image: Tensor, title: str) -> None:
    pixels = image.permute(1, 2, 0).numpy()
    axis.imshow(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, fontsize=8, pad=2)
