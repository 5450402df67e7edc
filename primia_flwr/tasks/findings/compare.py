"""Compare models on the same images, finding by finding: areas, and of each two the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from primia_flwr.errors import ConfigError
from primia_flwr.statistics.delong import area, area_difference, difference_variance
from primia_flwr.statistics.intervals import Interval
from primia_flwr.statistics.swapped_areas import swap_test
from primia_flwr.tables import INTERVAL, TEXT, Cell, Sheet
from primia_flwr.tasks.compared import ModelPair, ModelsCompared, corrected
from primia_flwr.tasks.findings import UNKNOWN
from primia_flwr.tasks.findings.evidence import RATES, findings_evidence
from primia_flwr.tasks.findings.scores import FIGURES
from primia_flwr.tasks.judge import Settings, intervals_of
from primia_flwr.tasks.predictions import Reading

_FEW = 2  # patients with a label, below which two areas have no difference


@dataclass(frozen=True)
class _FindingPair(ModelPair):
    """Two models on one finding; `auc` is the area of the first minus that of the second."""

    finding: str
    auc: Interval

    @property
    def difference(self) -> Interval:
        """The difference of areas."""
        return self.auc

    @property
    def names(self) -> str:
        """The finding and both models."""
        return f"{self.finding}, {super().names}"


@dataclass(frozen=True)
class _FindingsComparison(ModelsCompared):
    """Figures of each model with intervals, over findings and by finding, and of each two the test.

    `means`: by model, then by name of `FIGURES`. `of_finding`: by model, finding, name.
    """

    means: dict[str, dict[str, Interval]]
    of_finding: dict[str, dict[str, dict[str, Interval]]]
    pairs: list[_FindingPair]
    notes: list[str] = field(default_factory=list)
    template = "multilabel_compare"
    figure = ("auc", "AUC")

    @property
    def first_figures(self) -> dict[str, Interval]:
        """The mean area of each model."""
        return {name: of["auc"] for name, of in self.means.items()}

    @property
    def tested(self) -> list[_FindingPair]:
        """Each two models on each finding."""
        return self.pairs

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; no file name and no patient."""
        return self.about() | {
            "findings": list(self.made.names),
            "figures": {name: _plain(of) for name, of in self.means.items()},
            "per_finding": {
                name: {finding: _plain(of) for finding, of in of_model.items()}
                for name, of_model in self.of_finding.items()
            },
            "pairs": [asdict(pair) for pair in self.pairs],
            "notes": self.notes,
        }

    def sheets(self) -> list[Sheet]:
        """Return the tables that have rows."""
        pairs = self.differences("Each two models, finding by finding", "finding")
        return [sheet for sheet in (self._means(), self._findings(), pairs) if sheet.rows]

    def _means(self) -> Sheet:
        heads = ("AUC", "Balanced accuracy", "Sensitivity", "Specificity")
        figures = ((head, key, INTERVAL) for head, key in zip(heads, FIGURES, strict=True))
        columns = (("Model", "model", TEXT), *figures)
        rows: list[tuple[Cell, ...]] = [
            (name, *(of[key] for key in FIGURES)) for name, of in self.means.items()
        ]
        return Sheet("figures", "Each model, mean over findings", columns, rows)

    def _findings(self) -> Sheet:
        keys = ("auc", *RATES)
        columns = (("Finding", "finding", TEXT), ("Model", "model", TEXT), ("AUC", "auc", INTERVAL),
                   *((key.capitalize(), key, INTERVAL) for key in RATES))  # fmt: skip
        rows: list[tuple[Cell, ...]] = [
            (finding, name, *(of[finding][key] for key in keys))
            for finding in self.made.names
            for name, of in self.of_finding.items()
        ]
        return Sheet("findings", "Each finding, over its known labels", columns, rows)


def _plain(of: Mapping[str, Interval]) -> dict[str, Any]:
    return {key: one.to_dict() for key, one in of.items()}


def compare(
    readings: Sequence[Reading],
    settings: Settings,
    *,
    groups: Mapping[str, Mapping[str, str]],
    experts: Path | None,
) -> _FindingsComparison:
    """Compute the tables; arguments as of `Judge.compare`.

    Raises
    ------
    ConfigError
        If human readers or groups of images are given.
    """
    if experts or groups:
        given = f"experts={experts}" if experts else f"groups of {', '.join(groups)}"
        raise ConfigError(
            f"{given} with data.task=multilabel; expected neither: models alone are compared, on "
            "all images; leave it out"
        )
    found = {
        one.name: findings_evidence(
            {one.name: one.predictions}, FIGURES, seed=settings.seed, resamples=settings.resamples
        )
        for one in readings
    }
    return _FindingsComparison(
        readings,
        settings,
        {name: intervals_of(of["figures"][name]) for name, of in found.items()},
        {
            name: {finding: intervals_of(one) for finding, one in of["per_finding"].items()}
            for name, of in found.items()
        },
        _all_pairs(readings),
    )


def _all_pairs(readings: Sequence[Reading]) -> list[_FindingPair]:
    names = readings[0].predictions.names
    asked = (_pair(*two, k) for two in combinations(readings, 2) for k in range(len(names)))
    return corrected([pair for pair in asked if pair is not None])


def _pair(first: Reading, second: Reading, k: int) -> _FindingPair | None:
    """Compare two models on finding `k`; None where too few patients have one of its labels."""
    one, other = first.predictions, second.predictions
    known = np.flatnonzero(one.labels[:, k] != UNKNOWN)
    present = one.labels[known, k] == 1
    patients = np.array([one.patients[row] for row in known])
    if min(len(set(patients[present])), len(set(patients[~present]))) < _FEW:
        return None
    p, q = (made.outputs[known, k] for made in (one, other))
    of_first, of_second = (area(scores, present, patients) for scores in (p, q))
    test = swap_test(
        present.astype(np.int64),
        np.stack([-p, p], axis=1),
        np.stack([-q, q], axis=1),
        patients,
        variance=difference_variance(of_first, of_second, patients),
    )
    difference = area_difference(of_first, of_second, patients)
    return _FindingPair(first.name, second.name, test, 1.0, one.names[k], difference)
