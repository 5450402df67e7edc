"""What stands behind a classification's scores: intervals of all models, and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from primia_flwr.statistics.calibration import Bin, calibration
from primia_flwr.statistics.intervals import Interval
from primia_flwr.tasks.classes.readers.figures import ReaderFigures, reader_figures
from primia_flwr.tasks.classes.readers.panel import panel_of
from primia_flwr.tasks.parts import PartEvidence
from primia_flwr.tasks.predictions import MODEL, Predictions, Reading


@dataclass(frozen=True)
class Reliability:
    """Calibration of the federated model: `ece` in [0, 1], `brier` in [0, 2], its `bins`."""

    ece: float
    brier: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, kw_only=True)
class ClassEvidence(PartEvidence):
    """Of a classification, with the federated model's calibration."""

    reliability: Reliability

    @classmethod
    def read(cls, known: PartEvidence, values: Mapping[str, Any]) -> ClassEvidence:
        """Add to what is known the calibration that `class_evidence` gave."""
        of = values["calibration"]
        bins = tuple(Bin(**one) for one in of["bins"])
        return cls(
            **vars(known), reliability=Reliability(float(of["ece"]), float(of["brier"]), bins)
        )


def _of_class(own: ReaderFigures, name: str) -> dict[str, Any]:
    return {
        "sensitivity": own.sensitivity[name].to_dict(),
        "specificity": own.specificity[name].to_dict(),
        "roc_auc": own.roc_auc_per_class[name].to_dict(),
    }


def class_evidence(
    models: Mapping[str, Predictions], figures: Sequence[str], *, seed: int, resamples: int
) -> dict[str, Any]:
    """Return the figures of every model; those of the first also by class, and its calibration."""
    panel = panel_of([Reading(name, MODEL, "", made) for name, made in models.items()])
    found = reader_figures(panel, seed=seed, resamples=resamples)
    first = next(iter(models))
    own, made = found[first], models[first]
    return {
        "figures": {
            name: {key: _interval(getattr(of_model, key)).to_dict() for key in figures}
            for name, of_model in found.items()
        },
        "per_class": {name: _of_class(own, name) for name in panel.classes},
        "calibration": calibration(made.labels, made.outputs, made.patients).to_dict(),
    }


def _interval(found: Interval | None) -> Interval:
    return found or Interval(None, note="not defined on these images")
