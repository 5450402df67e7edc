"""The picture of the measured review: how good a model is, and what the worst party rebuilds."""

from pathlib import Path
from typing import Any

import numpy as np

from primia_flwr.plotting import COLOURS, MARKERS, drawing, write


def draw(found: dict[str, Any], file: Path) -> None:
    """Write the picture: one mark a system, the larger, the more bytes.

    A row of which scores are missing has none: its mean would be of other splits.
    """
    with drawing(9.4, 5.2, grid="both") as (figure, axes):
        for index, (name, row) in enumerate(found["rows"].items()):
            ssim = [seen["ssim"] for seen in row.get("seen", []) if "ssim" in seen]
            runs = [run for run in row["runs"] if "bytes_a_site" in run]
            if not (ssim and runs) or len(runs) < len(row["runs"]):
                continue
            axes.scatter(
                np.mean([run["mcc"] for run in runs]), max(ssim), label=name,
                s=20 + np.mean([run["bytes_a_site"] for run in runs]) / 1e6,
                color=COLOURS[index % len(COLOURS)],
                marker=MARKERS[(index + index // len(COLOURS)) % len(MARKERS)],
            )  # fmt: skip
        axes.set_xlabel("MCC on patients never trained on, mean of splits and seeds")
        axes.set_ylabel("SSIM that the party with the best view reaches")
        axes.set_title("Better to the right, safer below")
        axes.legend(fontsize=7)
        write(figure, file)
