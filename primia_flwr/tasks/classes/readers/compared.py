"""What a comparison of readers holds: figures, pairs, calibration, groups; as plain values."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from primia_flwr.statistics.calibration import Calibration
from primia_flwr.statistics.intervals import Interval
from primia_flwr.tasks.classes.readers.figures import ReaderFigures
from primia_flwr.tasks.classes.readers.operating_points import OperatingPoint
from primia_flwr.tasks.classes.readers.pairs import Pair
from primia_flwr.tasks.classes.readers.panel import Panel
from primia_flwr.tasks.classes.readers.subgroups import Subgroup
from primia_flwr.tasks.judge import Comparison, Settings


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
class Compared(Comparison):
    """Everything that is reported of a panel; `notes` are sentences that belong to it."""

    panel: Panel
    settings: Settings
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

    def summary(self) -> dict[str, Any]:
        """Return the MCC of each reader, and McNemar's smallest p, by patient and corrected."""
        p_values = [pair.p_holm for pair in self.pairs if pair.p_holm is not None]
        return {
            "images": len(self.panel),
            "patients": self.panel.num_patients,
            "mcc": {name: of.mcc.value for name, of in self.figures.items()},
            "smallest_p_holm": min(p_values, default=None),
        }
