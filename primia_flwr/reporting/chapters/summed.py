"""What the sites' summed counts say of the best model, where the coordinator has no test images."""

from __future__ import annotations

from dataclasses import dataclass

from primia_flwr.errors import DataError
from primia_flwr.numbers import interval
from primia_flwr.runs.cross_site import Cell
from primia_flwr.runs.folder import RunFolder
from primia_flwr.statistics.intervals import Interval
from primia_flwr.storage.reading import reading
from primia_flwr.tables import Sheet


@dataclass(frozen=True)
class Summed:
    """The best model on the sites' validation images: figures and tables, by image.

    `figures`: by the metric's words; `round`: of the model.
    """

    images: int
    round: int
    figures: dict[str, Interval]
    sheets: list[Sheet]

    @property
    def words(self) -> str:
        """The figures as the middle of a sentence."""
        return " and the ".join(f"{name} is {interval(of)}" for name, of in self.figures.items())


def summed_validation(folder: RunFolder) -> Summed | None:
    """Return it; None where the run has no such counts, or its task no intervals of them.

    Raises
    ------
    DataError
        If run.json holds something else.
    """
    values, names = folder.run.get("validation"), folder.run.get("classes") or []
    if not values or not names:
        return None
    expected = "the file as the run wrote it; copy the whole run folder again"
    with reading("run.json: validation", error=DataError, expected=expected):
        found = Cell.from_dict(values, folder.task, len(names)).found
        figures, sheets = folder.task.judge.summed(found.counts, names)
    words = {metric.name: metric.words for metric in folder.task.metrics}
    named = {words[name]: of for name, of in figures.items()}
    best = int(folder.run.get("best_round") or 0)
    return Summed(found.num_examples, best, named, sheets) if named else None
