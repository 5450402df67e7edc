"""How several findings are judged and shown: each by itself, and their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from primia_flwr.numbers import count, figure
from primia_flwr.statistics.arrays import FloatArray
from primia_flwr.statistics.intervals import Interval
from primia_flwr.storage.printable import printable
from primia_flwr.storage.reading import reason_of
from primia_flwr.tables import INTERVAL, NUMBER, TEXT, Cell, Sheet
from primia_flwr.tasks.findings import BINS, SCORES, UNKNOWN
from primia_flwr.tasks.findings.evidence import findings_evidence
from primia_flwr.tasks.findings.scores import DEMANDED, FindingsScores, score_findings
from primia_flwr.tasks.findings.summed import summed_figures, summed_mean
from primia_flwr.tasks.judge import Comparison, Settings
from primia_flwr.tasks.parts import PartJudge
from primia_flwr.tasks.predictions import Predictions, Reading
from primia_flwr.tasks.task import Metric

if TYPE_CHECKING:
    from primia_flwr.plotting import Plot

_PREFIX = "p_"
_LABELS = {"1": 1, "0": 0, "": UNKNOWN}
_SHOWN = {label: cell for cell, label in _LABELS.items()}
_RATES = ("auc", "sensitivity", "specificity")
_POINT = f"specificity at sensitivity {DEMANDED:g}"


class FindingsJudge(PartJudge):
    """Labels (F,) are 1, 0 or -1 (unknown), outputs (F,) probabilities, each by itself."""

    tested = (
        Metric("auc", "mean AUC", 0, 1),
        Metric("balanced_accuracy", "balanced accuracy", 0, 1),
        Metric("sensitivity", "mean sensitivity", 0, 1),
        Metric("specificity", "mean specificity", 0, 1),
    )
    headline = ("auc", "balanced_accuracy")
    template = "multilabel"
    scores_type, shown, within = (
        FindingsScores,
        _RATES,
        ", within the images of each rarest finding",
    )

    def score(self, labels: Any, outputs: Any, names: Sequence[str]) -> FindingsScores:
        """Judge probabilities."""
        return score_findings(labels, outputs, names)

    def summed(
        self, counts: Mapping[str, Any], names: Sequence[str]
    ) -> tuple[dict[str, Interval], list[Sheet]]:
        """Return the mean area, and the table of the findings."""
        scores = np.asarray(counts[SCORES], np.int64).reshape(len(names), 2, BINS)
        columns = (
            ("Finding", "finding", TEXT),
            ("Present", "present", NUMBER),
            ("Absent", "absent", NUMBER),
            ("AUC", "auc", INTERVAL),
            ("Sensitivity", "sensitivity", INTERVAL),
            ("Specificity", "specificity", INTERVAL),
        )
        rows: list[tuple[Cell, ...]] = [
            (name, int(of[1].sum()), int(of[0].sum()), *found)
            for name, of, found in zip(names, scores, summed_figures(scores), strict=True)
        ]
        caption = f"Each finding, 95 % by image; areas of scores in {BINS} bins"
        return {"auc": summed_mean(scores)}, [Sheet("summed", caption, columns, rows)]

    def columns(self, names: Sequence[str]) -> list[str]:
        """Return a label and a probability for each finding."""
        return [*names, *(_PREFIX + name for name in names)]

    def names_of(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Return the findings."""
        names = tuple(columns[: len(columns) // 2])
        if not names or list(columns) != self.columns(names):
            raise ValueError("one column a finding, then one p_<finding> column each")
        return names

    def cells(self, label: Any, output: FloatArray, names: Sequence[str]) -> list[Any]:
        """Return labels as 1, 0 or nothing, and the probabilities."""
        if output.shape != (len(names),) or np.shape(label) != output.shape:
            raise ValueError(
                f"labels {np.shape(label)} and probabilities {output.shape} for {len(names)} "
                "findings; expected one each"
            )
        shown = [_SHOWN.get(int(one)) for one in label]
        if None in shown:
            raise ValueError("a label is none of 1, 0 and -1; expected these")
        return [*shown, *map(float, output)]

    def read_cells(
        self, cells: Sequence[str], names: Sequence[str]
    ) -> tuple[list[int], list[float]]:
        """Return labels and probabilities."""
        findings = len(names)
        try:
            labels = [_LABELS[cell] for cell in cells[:findings]]
            return labels, [float(cell) for cell in cells[findings:]]
        except (KeyError, ValueError) as error:
            wrong = f"a label {error}" if isinstance(error, KeyError) else reason_of(error)
            raise ValueError(
                f"{printable(wrong, limit=100)}; expected 1, 0 or nothing for each finding, and "
                "one probability each"
            ) from None

    def evidence(
        self, models: Mapping[str, Predictions], *, seed: int, resamples: int
    ) -> dict[str, Any]:
        """Return intervals of every model; of the first by finding."""
        return findings_evidence(models, self.headline, seed=seed, resamples=resamples)

    def sheets(self, scores: Any) -> list[Sheet]:
        """Return the table of the findings."""
        columns = (
            ("Finding", "finding", TEXT),
            *((name.capitalize(), name, NUMBER) for name in ("present", "absent", "unknown")),
            ("AUC", "auc", NUMBER),
            ("Sensitivity", "sensitivity", NUMBER),
            ("Specificity", "specificity", NUMBER),
            (f"{_POINT[:1].upper()}{_POINT[1:]}", "specificity_there", NUMBER),
        )
        keys = [key for _, key, _ in columns[1:]]
        rows: list[tuple[Cell, ...]] = [
            (name, *(getattr(one, key) for key in keys)) for name, one in scores.per_finding.items()
        ]
        return [Sheet("findings", "Each finding, over its known labels", columns, rows)]

    def plots(
        self, scores: Any, predictions: Predictions | None, evidence: Any
    ) -> list[Plot | None]:
        """Draw the ROC curve of each finding."""
        from primia_flwr.tasks.findings.plots import roc_curves

        return [roc_curves(predictions, scores) if predictions else None]

    def chapter(self, scores: Any, evidence: Any) -> dict[str, Any]:
        """Return the table of the findings, with intervals where there are some."""
        rows = []
        for name, one in scores.parts.items():
            images = [count(n) for n in self.images_of(one).values()]
            point = [figure(one.threshold), figure(one.specificity_there)]
            rows.append([name, *images, *self.texts_of(name, one, evidence), *point])
        headings = ["Finding", "Present", "Absent", "Unknown", "AUC", "Sensitivity"]
        headings += ["Specificity", "Threshold", "Specificity there"]
        return {"finding_rows": rows, "finding_headings": headings, "demanded": DEMANDED}

    def images_of(self, part: Any) -> dict[str, int]:
        """Return the images of a finding by label."""
        return {key: getattr(part, key) for key in ("present", "absent", "unknown")}

    def compare(
        self,
        readings: Sequence[Reading],
        settings: Settings,
        *,
        validation: Mapping[str, Predictions],
        groups: Mapping[str, Mapping[str, str]],
        experts: Path | None,
    ) -> Comparison:
        """Compare models finding by finding."""
        from primia_flwr.tasks.findings.compare import compare

        return compare(readings, settings, groups=groups, experts=experts)


JUDGE = FindingsJudge()
