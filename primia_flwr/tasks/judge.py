"""How a task's models are judged on images that no site trained on, and how that is shown.

`metrics.json`, `predictions.csv`, `evidence.json`, the model card, the report and `primia compare`
hold what the judge of a task gives them; who writes and shows them knows nothing of the task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from primia_flwr.errors import ConfigError, DataError
from primia_flwr.numbers import BRACKETS, interval
from primia_flwr.statistics.intervals import RESAMPLES, Interval
from primia_flwr.tasks.predictions import Predictions, Reading
from primia_flwr.tasks.task import Metric

if TYPE_CHECKING:
    from primia_flwr.plotting import Plot
    from primia_flwr.tables import Sheet


class ModelScores(ABC):
    """One model on one set of images: `n` of them."""

    n: int

    @property
    def notes(self) -> tuple[str, ...]:
        """Return why figures are missing, a sentence each."""
        return ()

    @abstractmethod
    def figures(self) -> dict[str, float | None]:
        """Return every metric of its task, the tested ones among them, by name."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""


@dataclass(frozen=True)
class Evidence:
    """What is known of a run's models beyond their scores, from so many test images.

    `figures`: with intervals, by model, then by name of `Judge.headline`. `within`: what is kept
    alike in every resample, as the end of a clause.
    """

    images: int
    patients: int
    resamples: int
    figures: dict[str, dict[str, Interval]]
    within: str = ""

    def intervals(self) -> list[Interval]:
        """Return every interval."""
        return [one for of_model in self.figures.values() for one in of_model.values()]


@dataclass(frozen=True)
class Settings:
    """`demanded`: sensitivity of the operating points; `negative`: the class without a finding."""

    seed: int = 0
    resamples: int = RESAMPLES
    demanded: float = 0.95
    negative: str = "normal"


class Comparison(ABC):
    """Models, and perhaps people, on the same images.

    `template`: of its page, which `page` gives the values; `notes`: sentences that belong to it.
    """

    template: str
    notes: list[str]

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; no file name and no patient."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """Return what stands in the command's last line."""

    @abstractmethod
    def sheets(self) -> list[Sheet]:
        """Return its tables."""

    @abstractmethod
    def plots(self) -> dict[str, Plot]:
        """Return its pictures by name."""

    @abstractmethod
    def page(self) -> dict[str, Any]:
        """Return what its page says beside tables and pictures."""


class Judge(ABC):
    """Gives scores to a model's outputs, and says what files and pages show of them.

    `tested`: the figures of a model on test images. `headline`: names of those that get intervals
    and stand in summaries. `template`: of its chapters, `<template>.html.jinja` in the report and
    `<template>_card.md.jinja` in the model card; empty for none. `output_type`: of
    outputs in memory.
    """

    tested: tuple[Metric, ...]
    headline: tuple[str, ...]
    template: str = ""
    output_type: ClassVar[Any] = np.float64

    @property
    def headlined(self) -> tuple[Metric, ...]:
        """The metrics that `headline` names."""
        return tuple(metric for metric in self.tested if metric.name in self.headline)

    # --- Scores ---

    @abstractmethod
    def score(self, labels: Any, outputs: Any, names: Sequence[str]) -> ModelScores:
        """Judge a model's outputs; `names` are those of the outputs."""

    @abstractmethod
    def read_scores(self, values: Mapping[str, Any]) -> ModelScores:
        """Read back what `to_dict` wrote; a DataError where it is something else."""

    def summed(
        self, counts: Mapping[str, Any], names: Sequence[str]
    ) -> tuple[dict[str, Interval], list[Sheet]]:
        """Return what counts that sites summed say, with intervals by image: figures and tables.

        The figures are by name of a metric; none where a task has no intervals of sums.
        """
        return {}, []

    # --- predictions.csv ---

    @abstractmethod
    def columns(self, names: Sequence[str]) -> list[str]:
        """Return the columns after file and patient."""

    @abstractmethod
    def names_of(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Return the names in such columns; a ValueError that says what is expected of others."""

    @abstractmethod
    def cells(self, label: Any, output: Any, names: Sequence[str]) -> list[Any]:
        """Return the cells of one image; a ValueError where the label is none."""

    @abstractmethod
    def read_cells(self, cells: Sequence[str], names: Sequence[str]) -> tuple[Any, Any]:
        """Return label and output of one image; a ValueError that says what is expected."""

    # --- What more there is to show; nothing, unless a task says so ---

    def evidence(
        self, models: Mapping[str, Predictions], *, seed: int, resamples: int
    ) -> dict[str, Any]:
        """Return what evidence.json holds of models on the same images; `figures` among it."""
        return {}

    def read_evidence(self, values: Mapping[str, Any]) -> Evidence:
        """Read back what evidence.json holds."""
        figures = {name: intervals_of(of_model) for name, of_model in values["figures"].items()}
        images, patients, resamples = (
            int(values[key]) for key in ("images", "patients", "resamples")
        )
        return Evidence(images, patients, resamples, figures)

    def sheets(self, scores: ModelScores) -> list[Sheet]:
        """Return tables of one model beside its tested figures."""
        return []

    def plots(
        self, scores: ModelScores, predictions: Predictions | None, evidence: Evidence | None
    ) -> list[Plot | None]:
        """Return pictures of one model."""
        return []

    def pictured(self, predictions: Predictions, count: int) -> Sequence[int]:
        """Return the rows of images on which pictures draw, where images may be shown.

        `count`: images of each kind.
        """
        return ()

    def chapter(self, scores: ModelScores, evidence: Evidence | None) -> dict[str, Any]:
        """Return what the chapter of the report is given, beside `scores`, `evidence`, `plots`."""
        return {}

    def card(self, scores: ModelScores, evidence: Evidence | None) -> dict[str, Any]:
        """Return what the model card holds beside the tested figures; plain JSON values."""
        return {}

    # --- primia compare ---

    def aligned(self, who: str, predictions: Predictions, names: Sequence[str]) -> Predictions:
        """Return predictions with outputs in the order of the names; a DataError for others."""
        if tuple(predictions.names) != tuple(names):
            raise DataError(
                f"{who}: outputs {', '.join(predictions.names)}; expected those of the first run, "
                f"{', '.join(names)}; compare models of the same outputs"
            )
        return predictions

    def compare(
        self,
        readings: Sequence[Reading],
        settings: Settings,
        *,
        validation: Mapping[str, Predictions],
        groups: Mapping[str, Mapping[str, str]],
        experts: Path | None,
    ) -> Comparison:
        """Compare readings of the same images, in the same order.

        `validation`: what models made of validation images, by reading; `groups`: by column, the
        group of a file; `experts`: a CSV of human readers.
        """
        raise ConfigError(
            "runs: the task of these models has no comparison of its own; expected models of a "
            "task that has one, e.g. classification; score each with primia evaluate"
        )


def intervals_of(values: Mapping[str, Any]) -> dict[str, Interval]:
    """Read back intervals by name."""
    return {name: Interval(**one) for name, one in values.items()}


def with_words(found: Interval) -> dict[str, Any]:
    """Return an interval as plain JSON values, and as a person reads it."""
    return {**found.to_dict(), "words": interval(found, BRACKETS)}
