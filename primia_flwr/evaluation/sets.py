"""Sets of classes for scored images, from what the sites' validation has counted."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from primia_flwr.errors import ConfigError
from primia_flwr.evaluation.predictions import read_predictions
from primia_flwr.models.card import ModelCard
from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.statistics.conformal import (
    SetFigures,
    figures_by_class,
    prediction_sets,
    set_thresholds,
    smallest_patients,
)
from primia_flwr.storage import plain_csv
from primia_flwr.storage.atomic import PRIVATE, write_atomic
from primia_flwr.tables import NUMBER, TEXT, Cell, Sheet
from primia_flwr.tasks.judge import Judge

COVERAGE = 0.9  # where nothing else is asked for
_SETS_FILE = "sets.csv"
_BETWEEN = ";"


@dataclass(frozen=True)
class _SetRule:
    """How sets of classes are made: `thresholds` (C,), the last bin of `bins` that is in.

    `patients`: from how many; `fewest`: of a class, where each has a threshold of its own.
    """

    coverage: float
    by_class: bool
    thresholds: IntArray
    bins: int
    patients: int
    fewest: int

    def sets(self, probabilities: FloatArray) -> npt.NDArray[np.bool_]:
        """Return which classes are in the set of each image, (N, C)."""
        return prediction_sets(probabilities, self.thresholds, bins=self.bins)

    @property
    def note(self) -> str:
        """Why every class is in every set; empty where that is not so."""
        needed, found = smallest_patients(self.coverage), self.fewest
        if found >= needed:
            return ""
        return (
            f"{found} validation patients{' of a class' if self.by_class else ''} are too few for "
            f"coverage={self.coverage:g}, which needs {needed}: their sets hold every class"
        )


def asked_rule(card: ModelCard, *, coverage: float | None, by_class: bool) -> _SetRule | None:
    """Return how the sets of a model are made; None of a model that has none.

    Raises
    ------
    ConfigError
        If it has none, and they are asked for.
    """
    if card.set_scores:
        return set_rule(card, coverage=coverage or COVERAGE, by_class=by_class)
    if coverage is None and not by_class:
        return None
    asked = "by_class=true" if coverage is None else f"coverage={coverage:g}"
    raise ConfigError(
        f"{asked}: the model's card has no set_scores; expected a model that was trained with "
        "task=conformal; leave coverage and by_class out"
    )


def set_rule(card: ModelCard, *, coverage: float, by_class: bool) -> _SetRule:
    """Return how the sets of a model are made whose card has counts of scores."""
    counts = np.array(card.set_scores, np.int64)
    found = set_thresholds(counts, coverage=coverage, by_class=by_class)
    by_name = counts.sum(axis=1)
    fewest = int(by_name.min() if by_class else by_name.sum())
    return _SetRule(coverage, by_class, found, counts.shape[1], int(counts.sum()), fewest)


@dataclass(frozen=True)
class _JudgedSets:
    """Sets of images whose class is known: all of them, and each class."""

    rule: _SetRule
    whole: SetFigures
    per_class: dict[str, SetFigures | None]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "asked": self.rule.coverage,
            "by_class": self.rule.by_class,
            "calibration_patients": self.rule.patients,
            "note": self.rule.note,
            **self.whole.to_dict(),
            "per_class": {name: of and of.to_dict() for name, of in self.per_class.items()},
        }

    def sheet(self) -> Sheet:
        """Return the table of all images and of each class."""
        columns = (
            ("Class", "class", TEXT), ("Images", "images", NUMBER),
            ("Coverage", "coverage", NUMBER), ("Mean size", "mean_size", NUMBER),
            ("One class", "single", NUMBER), ("None", "empty", NUMBER),
        )  # fmt: skip
        rows: list[tuple[Cell, ...]] = [_row("all", self.whole)]
        rows += [_row(name, of) for name, of in self.per_class.items()]
        kind = ", each class by itself" if self.rule.by_class else ""
        caption = (
            f"Sets for coverage {self.rule.coverage:g}{kind}, from {self.rule.patients} validation "
            "patients of all sites"
        )
        return Sheet("sets", caption, columns, rows)


def judge_sets(predictions: Path, judge: Judge, rule: _SetRule) -> _JudgedSets:
    """Judge the sets of a predictions.csv, and write sets.csv beside it.

    Raises
    ------
    DataError
        If the file cannot be read, or the other one not be written.
    """
    made = read_predictions(predictions, judge)
    sets = rule.sets(made.outputs)
    text = io.StringIO(newline="")
    writer = plain_csv.writer(text)
    writer.writerow(["file", "patient", "label", "set"])
    for file, patient, label, chosen in zip(
        made.files, made.patients, made.labels, sets, strict=True
    ):
        writer.writerow([file, patient, made.names[label], in_words(made.names, chosen)])
    write_atomic(predictions.with_name(_SETS_FILE), text.getvalue(), mode=PRIVATE)
    whole = SetFigures.of(sets, made.labels, made.patients)
    return _JudgedSets(rule, whole, figures_by_class(sets, made.labels, made.patients, made.names))


def in_words(names: tuple[str, ...], chosen: npt.NDArray[np.bool_]) -> str:
    """Return the classes of one set."""
    return _BETWEEN.join(name for name, one in zip(names, chosen, strict=True) if one)


def _row(name: str, of: SetFigures | None) -> tuple[Cell, ...]:
    if of is None:
        return (name, 0, None, None, None, None)
    return (name, of.images, of.coverage, of.mean_size, of.single, of.empty)
