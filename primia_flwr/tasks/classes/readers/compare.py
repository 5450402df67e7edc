"""Compare any number of models and human readers on the same images, with intervals and tests.

The tables are those of Kaissis et al. 2021 (PriMIA), Table 1 and its supplement: figures of each
reader, McNemar's test and Cohen's kappa between each two; and calibration, operating points and
subgroups. This module puts together what the others compute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.statistics.calibration import (
    Calibration,
    calibration,
    fit_temperature,
    with_temperature,
)
from primia_flwr.statistics.intervals import (
    RESAMPLES,
    Interval,
    Strata,
    bootstrap_limits,
    bootstrapped,
)
from primia_flwr.tasks.classes.readers.figures import ReaderFigures, reader_figures
from primia_flwr.tasks.classes.readers.operating_points import (
    OperatingPoint,
    Question,
    binary_statistic,
    questions,
    threshold_for,
)
from primia_flwr.tasks.classes.readers.pairs import Pair, kappa_with_truth, pairs
from primia_flwr.tasks.classes.readers.subgroups import Grouping, Subgroup, subgroups
from primia_flwr.tasks.panel import Panel, Reader, check_size

VALIDATION, COMPARED = "validation", "compared"
FEW_PATIENTS = 30
"""Below, intervals of areas near 1 are too short: see benchmarks/results/interval_coverage.json."""

Held = tuple[IntArray, FloatArray]
"""Labels (M,) and a model's probabilities (M, C) of validation images."""


@dataclass(frozen=True)
class ComparisonSettings:
    """`demanded`: sensitivity of the operating points; `negative`: the class without a finding."""

    seed: int = 0
    resamples: int = RESAMPLES
    demanded: float = 0.95
    negative: str = "normal"


@dataclass(frozen=True)
class Calibrated:
    """A model's calibration as it is, and with the temperature fitted on validation images.

    `temperature` and `fitted` are None where no validation images are at hand.
    """

    as_is: Calibration
    temperature: float | None
    fitted: Calibration | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "as_is": self.as_is.to_dict(),
            "temperature": self.temperature,
            "fitted": self.fitted.to_dict() if self.fitted else None,
        }


@dataclass(frozen=True)
class Comparison:
    """Everything that is reported of a panel; `notes` are sentences that belong to it."""

    panel: Panel
    settings: ComparisonSettings
    figures: dict[str, ReaderFigures]
    pairs: list[Pair]
    kappa_with_truth: dict[str, Interval]
    calibration: dict[str, Calibrated]
    operating_points: dict[str, list[OperatingPoint]]
    subgroups: list[Subgroup]
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; no file name and no patient."""
        panel = self.panel
        return {
            "images": len(panel),
            "patients": panel.num_patients,
            "classes": list(panel.classes),
            "images_of_class": np.bincount(panel.labels, minlength=len(panel.classes)).tolist(),
            "readers": [
                {"name": r.name, "kind": r.kind, "origin": r.origin} for r in panel.readers
            ],
            "settings": dict(vars(self.settings)),
            "figures": {name: found.to_dict() for name, found in self.figures.items()},
            "pairs": [pair.to_dict() for pair in self.pairs],
            "kappa_with_truth": {k: v.to_dict() for k, v in self.kappa_with_truth.items()},
            "calibration": {k: v.to_dict() for k, v in self.calibration.items()},
            "operating_points": {
                name: [point.to_dict() for point in points]
                for name, points in self.operating_points.items()
            },
            "subgroups": [group.to_dict() for group in self.subgroups],
            "notes": self.notes,
        }


def compare(
    panel: Panel,
    settings: ComparisonSettings,
    *,
    validation: Mapping[str, Held] | None = None,
    groupings: Mapping[str, Grouping] | None = None,
) -> Comparison:
    """Compute every table of a comparison.

    Parameters
    ----------
    panel : Panel
        Readers of the same N images.
    settings : ComparisonSettings
        Seed and size of the bootstrap, and what is demanded of operating points.
    validation : mapping, optional
        Validation images by name of the reader: temperatures and thresholds are chosen on them.
    groupings : mapping, optional
        Column name to the group of each image.

    Raises
    ------
    DataError
        If there are fewer than 10 images, or images of one class only.
    """
    check_size(panel)
    draws = {"seed": settings.seed, "resamples": settings.resamples}
    held = validation or {}
    models = [reader for reader in panel.readers if reader.probabilities is not None]
    return Comparison(
        panel=panel,
        settings=settings,
        figures=reader_figures(panel, **draws),
        pairs=pairs(panel, **draws),
        kappa_with_truth=kappa_with_truth(panel),
        calibration={r.name: _calibrated(panel, r, held.get(r.name)) for r in models},
        operating_points={r.name: _points(panel, r, held.get(r.name), settings) for r in models},
        subgroups=subgroups(panel, groupings or {}, **draws),
        notes=_few_patients(panel),
    )


def _few_patients(panel: Panel) -> list[str]:
    """Return a sentence for the classes whose intervals of areas may be too short."""
    counts = {
        name: len(np.unique(panel.units[panel.labels == k])) for k, name in enumerate(panel.classes)
    }
    few = [f"{name} ({n})" for name, n in counts.items() if 0 < n < FEW_PATIENTS]
    if not few:
        return []
    return [
        f"Fewer than {FEW_PATIENTS} patients of {', '.join(few)}: intervals of an area near 1 are "
        "then too short (about 90 instead of 95 % coverage with 20 patients and an area of 0.955)."
    ]


def _calibrated(panel: Panel, reader: Reader, held: Held | None) -> Calibrated:
    assert reader.probabilities is not None
    as_is = calibration(panel.labels, reader.probabilities)
    if held is None:
        return Calibrated(as_is, None, None)
    temperature = fit_temperature(*held)
    scaled = with_temperature(reader.probabilities, temperature)
    return Calibrated(as_is, temperature, calibration(panel.labels, scaled))


def _points(
    panel: Panel, reader: Reader, held: Held | None, settings: ComparisonSettings
) -> list[OperatingPoint]:
    found = [
        _point(panel, reader, held, question, settings)
        for question in questions(panel.classes, settings.negative)
    ]
    return [point for point in found if point]


def _point(
    panel: Panel,
    reader: Reader,
    held: Held | None,
    question: Question,
    settings: ComparisonSettings,
) -> OperatingPoint | None:
    assert reader.probabilities is not None
    labels, probabilities = held or (panel.labels, reader.probabilities)
    chosen = question.truth(labels), question.score(probabilities)
    threshold = threshold_for(*chosen, settings.demanded)
    if threshold is None:
        return None
    truth = question.truth(panel.labels)
    called = (question.score(reader.probabilities) >= threshold).astype(np.int64)
    strata = Strata.by_class(panel.patients, panel.labels)
    limits = bootstrap_limits(
        binary_statistic(truth, called, strata),
        strata,
        rng=np.random.default_rng(settings.seed),
        resamples=settings.resamples,
    )
    rates = [
        bootstrapped(row, patients=len(np.unique(panel.units[side])), rate=True)
        for row, side in zip(np.stack(limits, axis=1), (truth == 1, truth == 0), strict=True)
    ]
    where = COMPARED if held is None else VALIDATION
    return OperatingPoint(question.name, settings.demanded, threshold, where, *rates)
