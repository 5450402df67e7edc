"""Compare any number of models and human readers on the same images, with intervals and tests.

The tables are those of Kaissis et al. 2021 (PriMIA), Table 1 and its supplement: figures of each
reader, McNemar's test and Cohen's kappa between each two; and calibration, operating points and
subgroups. This module puts together what the others compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from primia_flwr.plotting import Plot
from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.statistics.by_patient import effective_number
from primia_flwr.statistics.calibration import BINS, calibration, fit_temperature, with_temperature
from primia_flwr.statistics.intervals import Strata, bootstrap_limits, bootstrapped
from primia_flwr.statistics.thresholds import threshold_for
from primia_flwr.tables import Sheet
from primia_flwr.tasks.classes.readers.answer import answer
from primia_flwr.tasks.classes.readers.compared import Calibrated, Compared
from primia_flwr.tasks.classes.readers.experts import join_experts
from primia_flwr.tasks.classes.readers.figures import reader_figures
from primia_flwr.tasks.classes.readers.operating_points import (
    OperatingPoint,
    Question,
    binary_statistic,
    questions,
)
from primia_flwr.tasks.classes.readers.pairs import kappa_with_truth, pairs
from primia_flwr.tasks.classes.readers.panel import Panel, Reader, check_size, panel_of
from primia_flwr.tasks.classes.readers.plots import draw
from primia_flwr.tasks.classes.readers.sheets import missing, sheets
from primia_flwr.tasks.classes.readers.subgroups import subgroups
from primia_flwr.tasks.judge import Settings
from primia_flwr.tasks.predictions import Predictions, Reading

VALIDATION, COMPARED = "validation", "compared"
Held = tuple[IntArray, FloatArray]
"""Labels (M,) and a model's probabilities (M, C) of validation images."""
_FEW_EFFECTIVE = 10
_FEW_PATIENTS = 30
"""Below, intervals of areas near 1 are too short: see benchmarks/results/interval_coverage.json."""


class _ReadersComparison(Compared):
    """A comparison of readers with its tables, its pictures and its page."""

    template = "classification_compare"

    def sheets(self) -> list[Sheet]:
        """Return the tables that it has rows for."""
        return sheets(self)

    def plots(self) -> dict[str, Plot]:
        """Return the pictures that it has figures for."""
        return draw(self)

    def summary(self) -> dict[str, Any]:
        """Return what was found in words, too."""
        return {**super().summary(), "answer": answer(self)}

    def page(self) -> dict[str, Any]:
        """Return who read what, and what the words beside the tables need to know."""
        panel = self.panel
        chosen = {p.chosen_on for points in self.operating_points.values() for p in points}
        return {
            "images": len(panel),
            "patients": panel.num_patients,
            "counts": {name: int((panel.labels == k).sum())
                       for k, name in enumerate(panel.classes)},
            "readers": [(reader.name, reader.kind, reader.origin) for reader in panel.readers],
            "settings": self.settings,
            "missing": missing(self),
            "chosen_on_validation": chosen == {VALIDATION},
            "repeated": panel.num_patients < len(panel),
            "answer": answer(self),
            "bins": BINS,
        }  # fmt: skip


def compare(
    readings: Sequence[Reading],
    settings: Settings,
    *,
    validation: Mapping[str, Predictions],
    groups: Mapping[str, Mapping[str, str]],
    experts: Path | None,
) -> _ReadersComparison:
    """Compute every table of a comparison.

    Parameters
    ----------
    readings : sequence of Reading
        Models on the same N images, in the same order, with the classes in the same order.
    settings : Settings
        Seed and size of the bootstrap, and what is demanded of operating points.
    validation : mapping
        Validation images by name of the reader: temperatures and thresholds are chosen on them.
    groups : mapping
        By column, the group of a file.
    experts : Path or None
        Human readers; the images are then those that all have read.

    Raises
    ------
    DataError
        If there are fewer than 10 images, or images of one class only, or the experts cannot be
        read.
    """
    panel, notes = panel_of(readings), []
    if experts:
        panel, note = join_experts(panel, experts)
        notes += [note] if note else []
    check_size(panel)
    draws = {"seed": settings.seed, "resamples": settings.resamples}
    held = {name: (one.labels, one.outputs) for name, one in validation.items()}
    models = [reader for reader in panel.readers if reader.probabilities is not None]
    return _ReadersComparison(
        panel=panel,
        settings=settings,
        figures=reader_figures(panel, **draws),
        pairs=pairs(panel, **draws),
        kappa_with_truth=kappa_with_truth(panel),
        calibration={r.name: _calibrated(panel, r, held.get(r.name)) for r in models},
        operating_points={r.name: _points(panel, r, held.get(r.name), settings) for r in models},
        subgroups=subgroups(panel, groups, **draws),
        notes=[*_few_patients(panel), *_one_rules(panel), *notes],
    )


def _few_patients(panel: Panel) -> list[str]:
    """Return a sentence for the classes whose intervals of areas may be too short."""
    counts = {
        name: len(np.unique(panel.units[panel.labels == k])) for k, name in enumerate(panel.classes)
    }
    few = [f"{name} ({n})" for name, n in counts.items() if 0 < n < _FEW_PATIENTS]
    if not few:
        return []
    return [
        f"Fewer than {_FEW_PATIENTS} patients of {', '.join(few)}: intervals of an area near 1 are "
        "then too short (about 90 instead of 95 % coverage with 20 patients and an area of 0.955)."
    ]


def _one_rules(panel: Panel) -> list[str]:
    """Return a sentence where some patients have so many images that the others hardly count."""
    images = np.bincount(panel.units)
    effective = effective_number(images)
    if effective >= _FEW_EFFECTIVE:
        return []
    return [
        f"The largest patient has {images.max()} of {len(panel)} images, so the {len(images)} "
        f"patients say as much as {effective:.1f} alike ones: intervals from the bootstrap are "
        "then too short. The p-values hold."
    ]


def _calibrated(panel: Panel, reader: Reader, held: Held | None) -> Calibrated:
    assert reader.probabilities is not None
    as_is = calibration(panel.labels, reader.probabilities, panel.patients)
    if held is None:
        return Calibrated(as_is, None, None)
    temperature = fit_temperature(*held)
    scaled = with_temperature(reader.probabilities, temperature)
    return Calibrated(as_is, temperature, calibration(panel.labels, scaled, panel.patients))


def _points(
    panel: Panel, reader: Reader, held: Held | None, settings: Settings
) -> list[OperatingPoint]:
    found = [
        _point(panel, reader, held, question, settings)
        for question in questions(panel.classes, settings.negative)
    ]
    return [point for point in found if point]


def _point(
    panel: Panel, reader: Reader, held: Held | None, question: Question, settings: Settings
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
