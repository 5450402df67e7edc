"""How a classification is judged and shown: scores, intervals, calibration, readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from primia_flwr.numbers import count
from primia_flwr.statistics.arrays import FloatArray
from primia_flwr.statistics.intervals import Interval
from primia_flwr.storage.printable import printable
from primia_flwr.storage.reading import reason_of
from primia_flwr.tables import INTERVAL, NUMBER, TEXT, Cell, Sheet
from primia_flwr.tasks.classes import CONFUSION
from primia_flwr.tasks.classes.evidence import ClassEvidence, class_evidence
from primia_flwr.tasks.classes.readers.panel import aligned
from primia_flwr.tasks.classes.scores import Scores, score
from primia_flwr.tasks.classes.summed import summed_figures
from primia_flwr.tasks.judge import Comparison, Settings
from primia_flwr.tasks.parts import PartJudge
from primia_flwr.tasks.predictions import Predictions, Reading
from primia_flwr.tasks.task import Metric

if TYPE_CHECKING:
    from primia_flwr.plotting import Plot

_PREFIX = "p_"
_RATES = ("sensitivity", "specificity", "roc_auc")


class ClassJudge(PartJudge):
    """Labels are indices of classes, outputs their probabilities."""

    tested = (
        Metric("accuracy", "accuracy", 0, 1),
        Metric("balanced_accuracy", "balanced accuracy", 0, 1),
        Metric("mcc", "MCC", -1, 1),
        Metric("roc_auc", "ROC-AUC", 0, 1),
    )
    headline = ("accuracy", "mcc", "roc_auc")
    template = "classification"
    scores_type, shown, within = Scores, _RATES, ", within classes"

    def score(self, labels: Any, outputs: Any, names: Sequence[str]) -> Scores:
        """Judge probabilities."""
        return score(labels, outputs, names)

    def summed(
        self, counts: Mapping[str, Any], names: Sequence[str]
    ) -> tuple[dict[str, Interval], list[Sheet]]:
        """Return accuracy and MCC, and the table of the classes."""
        matrix = np.asarray(counts[CONFUSION], np.int64).reshape(len(names), len(names))
        found = summed_figures(matrix, names)
        columns = (
            ("Class", "class", TEXT),
            ("Images", "images", NUMBER),
            ("Sensitivity", "sensitivity", INTERVAL),
            ("Specificity", "specificity", INTERVAL),
        )
        rows: list[tuple[Cell, ...]] = [
            (name, int(matrix[k].sum()), found["sensitivity", name], found["specificity", name])
            for k, name in enumerate(names)
        ]
        sheet = Sheet("summed", "Each class against all others, 95 % by image", columns, rows)
        return {name: found[name, ""] for name in ("accuracy", "mcc")}, [sheet]

    def columns(self, names: Sequence[str]) -> list[str]:
        """Return true class, predicted class, and a probability a class."""
        return ["label", "prediction", *(_PREFIX + name for name in names)]

    def names_of(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Return the classes."""
        names = tuple(name.removeprefix(_PREFIX) for name in columns[2:])
        if not names or list(columns) != self.columns(names):
            raise ValueError("label,prediction and one p_<class> column a class")
        return names

    def cells(self, label: Any, output: FloatArray, names: Sequence[str]) -> list[Any]:
        """Return both classes by name, and the probabilities."""
        if not 0 <= label < len(names):
            raise ValueError(f"a label is outside 0 to {len(names) - 1}; expected an index")
        if output.shape != (len(names),):
            raise ValueError(
                f"probabilities {output.shape} for {len(names)} classes; expected one each"
            )
        return [names[label], names[int(output.argmax())], *map(float, output)]

    def read_cells(self, cells: Sequence[str], names: Sequence[str]) -> tuple[int, list[float]]:
        """Return the index of the true class, and the probabilities."""
        try:
            return list(names).index(cells[0]), [float(cell) for cell in cells[2:]]
        except ValueError as error:
            raise ValueError(
                f"{reason_of(error)}; expected a label among "
                f"{printable(', '.join(names), limit=200)} and one probability a class"
            ) from None

    def evidence(
        self, models: Mapping[str, Predictions], *, seed: int, resamples: int
    ) -> dict[str, Any]:
        """Return intervals of every model; of the first by class, and its calibration."""
        return class_evidence(models, self.headline, seed=seed, resamples=resamples)

    def read_evidence(self, values: Mapping[str, Any]) -> ClassEvidence:
        """Read the intervals and the calibration."""
        return ClassEvidence.read(super().read_evidence(values), values)

    def sheets(self, scores: Any) -> list[Sheet]:
        """Return the table of the classes."""
        heads = ("Sensitivity", "Specificity", "ROC-AUC")
        columns = (
            ("Class", "class", TEXT),
            ("Images", "images", NUMBER),
            *((head, key, NUMBER) for head, key in zip(heads, _RATES, strict=True)),
        )
        rows: list[tuple[Cell, ...]] = [
            (name, one.n, *(getattr(one, key) for key in _RATES))
            for name, one in scores.per_class.items()
        ]
        return [Sheet("classes", "Each class against all others", columns, rows)]

    def plots(
        self, scores: Any, predictions: Predictions | None, evidence: Any
    ) -> list[Plot | None]:
        """Draw what was called what, the ROC curves, and the reliability diagram."""
        from primia_flwr.tasks.classes.plots import called_classes, reliability, roc_curves

        return [
            called_classes(scores),
            roc_curves(predictions, scores) if predictions else None,
            reliability(evidence) if evidence else None,
        ]

    def chapter(self, scores: Any, evidence: Any) -> dict[str, Any]:
        """Return the table of the classes, with intervals where there are some."""
        parts = scores.parts.items()
        return {
            "class_rows": [[n, count(one.n), *self.texts_of(n, one, evidence)] for n, one in parts]
        }

    def card(self, scores: Any, evidence: Any) -> dict[str, Any]:
        """Return counts, figures by class, and calibration."""
        return {
            "confusion": scores.confusion,
            **super().card(scores, evidence),
            "ece": evidence.reliability.ece if evidence else None,
            "brier": evidence.reliability.brier if evidence else None,
        }

    def aligned(self, who: str, predictions: Predictions, names: Sequence[str]) -> Predictions:
        """Put the classes into the order of the names."""
        return aligned(who, predictions, names)

    def compare(
        self,
        readings: Sequence[Reading],
        settings: Settings,
        *,
        validation: Mapping[str, Predictions],
        groups: Mapping[str, Mapping[str, str]],
        experts: Path | None,
    ) -> Comparison:
        """Compare models and people who name a class of each image."""
        from primia_flwr.tasks.classes.readers.compare import compare

        return compare(readings, settings, validation=validation, groups=groups, experts=experts)


JUDGE = ClassJudge()
