"""How a segmentation is judged and shown: Dice, IoU and distances, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from primia_flwr.numbers import count
from primia_flwr.tables import NUMBER, TEXT, Cell, Sheet
from primia_flwr.tasks.judge import Comparison, Settings
from primia_flwr.tasks.masks.counts import confusion_of, dice_of
from primia_flwr.tasks.masks.evidence import mask_evidence
from primia_flwr.tasks.masks.runs import from_runs, to_runs
from primia_flwr.tasks.masks.scores import FIGURES, MaskScores, score_masks
from primia_flwr.tasks.parts import PartJudge
from primia_flwr.tasks.predictions import Predictions, Reading
from primia_flwr.tasks.task import Metric

if TYPE_CHECKING:
    from primia_flwr.plotting import Plot

_PREFIX = "dice_"
_HEADS = ("Dice", "IoU", "Hausdorff 95 %, px", "Surface distance, px")


class MaskJudge(PartJudge):
    """Labels and outputs are masks (H, W) of the indices of classes."""

    tested = (
        Metric("dice", "Dice", 0, 1),
        Metric("iou", "IoU", 0, 1),
        Metric("hd95", "Hausdorff 95 %, px", 0, float("inf"), higher_is_better=False),
        Metric("surface_distance", "surface distance, px", 0, float("inf"), higher_is_better=False),
    )
    headline = ("dice", "iou", "hd95")
    template = "segmentation"
    scores_type, shown, within = MaskScores, FIGURES, ", within the images of each last class"
    output_type: ClassVar[Any] = np.uint8

    def score(self, labels: Any, outputs: Any, names: Sequence[str]) -> MaskScores:
        """Judge called masks."""
        return score_masks(labels, outputs, names)

    def columns(self, names: Sequence[str]) -> list[str]:
        """Return both masks as runs, and the Dice of each class."""
        return ["mask", "prediction", *(_PREFIX + name for name in names)]

    def names_of(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Return the classes."""
        names = tuple(name.removeprefix(_PREFIX) for name in columns[2:])
        if not names or list(columns) != self.columns(names):
            raise ValueError("mask,prediction and one dice_<class> column a class")
        return names

    def cells(self, label: Any, output: Any, names: Sequence[str]) -> list[Any]:
        """Return the masks as runs, and Dice; nothing where a class is neither true nor called."""
        if max(label.max(), output.max()) >= len(names):
            raise ValueError(f"a mask has a class above {len(names) - 1}; expected an index")
        dice = dice_of(confusion_of(label[None], output[None], len(names)))[0]
        shown = ["" if np.isnan(one) else float(one) for one in dice]
        return [to_runs(label), to_runs(output), *shown]

    def read_cells(self, cells: Sequence[str], names: Sequence[str]) -> tuple[Any, Any]:
        """Return both masks; Dice follows from them."""
        label, output = from_runs(cells[0]), from_runs(cells[1])
        if label.shape != output.shape or max(label.max(), output.max()) >= len(names):
            raise ValueError(
                f"masks {label.shape} and {output.shape}; expected one size, and classes up to "
                f"{len(names) - 1}"
            )
        return label, output

    def evidence(
        self, models: Mapping[str, Predictions], *, seed: int, resamples: int
    ) -> dict[str, Any]:
        """Return intervals of every model; of the first by class."""
        return mask_evidence(models, self.headline, seed=seed, resamples=resamples)

    def sheets(self, scores: Any) -> list[Sheet]:
        """Return the table of the classes."""
        columns = (
            ("Class", "class", TEXT),
            ("Images", "images", NUMBER),
            *((head, key, NUMBER) for head, key in zip(_HEADS, FIGURES, strict=True)),
        )
        rows: list[tuple[Cell, ...]] = [
            (name, one.n, *(getattr(one, key) for key in FIGURES))
            for name, one in scores.per_class.items()
        ]
        return [Sheet("classes", "Each class but the background", columns, rows)]

    def plots(
        self, scores: Any, predictions: Predictions | None, evidence: Any
    ) -> list[Plot | None]:
        """Draw the Dice of the images, and the masks of the worst, the middle and the best."""
        from primia_flwr.tasks.masks.plots import dice_of_images, single_cases

        return [dice_of_images(predictions), single_cases(predictions)] if predictions else []

    def pictured(self, predictions: Predictions, count: int) -> list[int]:
        """Return the first of the worst, the middle and the best images."""
        from primia_flwr.tasks.masks.plots import chosen_cases

        _, groups = chosen_cases(predictions)
        return sorted({int(row) for rows in groups.values() for row in rows[:count]})

    def chapter(self, scores: Any, evidence: Any) -> dict[str, Any]:
        """Return the table of the classes, with intervals where there are some."""
        parts = scores.parts.items()
        rows = [[name, count(one.n), *self.texts_of(name, one, evidence)] for name, one in parts]
        return {"class_rows": rows, "class_headings": ["Class", "Images", *_HEADS]}

    def compare(
        self,
        readings: Sequence[Reading],
        settings: Settings,
        *,
        validation: Mapping[str, Predictions],
        groups: Mapping[str, Mapping[str, str]],
        experts: Path | None,
    ) -> Comparison:
        """Compare models image by image."""
        from primia_flwr.tasks.masks.compare import compare

        return compare(readings, settings, groups=groups, experts=experts)


JUDGE = MaskJudge()
