"""Compare models on the same images, finding by finding: areas, and of each two the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from primia_flwr.errors import ConfigError
from primia_flwr.numbers import interval, p_value
from primia_flwr.plotting import Plot
from primia_flwr.statistics.agreement import holm
from primia_flwr.statistics.delong import area, area_difference, difference_variance
from primia_flwr.statistics.intervals import Interval
from primia_flwr.statistics.sign_flips import SignFlips
from primia_flwr.statistics.swapped_areas import swap_test
from primia_flwr.tables import INTERVAL, NUMBER, P_VALUE, TEXT, Cell, Sheet
from primia_flwr.tasks.findings import UNKNOWN
from primia_flwr.tasks.findings.evidence import RATES, findings_evidence
from primia_flwr.tasks.findings.scores import FIGURES
from primia_flwr.tasks.judge import Comparison, Settings, intervals_of
from primia_flwr.tasks.predictions import Predictions, Reading

_LEVEL = 0.05
_FEW = 2  # patients with a label, below which two areas have no difference


@dataclass(frozen=True)
class FindingPair:
    """Two models on one finding; `auc` is the area of the first minus that of the second.

    `p_holm` corrects for all findings and pairs.
    """

    finding: str
    first: str
    second: str
    auc: Interval
    test: SignFlips
    p_holm: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class FindingsComparison(Comparison):
    """Figures of each model with intervals, over findings and by finding, and of each two the test.

    `means`: by model, then by name of `FIGURES`. `of_finding`: by model, finding, name.
    """

    readings: Sequence[Reading]
    settings: Settings
    means: dict[str, dict[str, Interval]]
    of_finding: dict[str, dict[str, dict[str, Interval]]]
    pairs: list[FindingPair]
    notes: list[str] = field(default_factory=list)
    template = "multilabel_compare"

    @property
    def made(self) -> Predictions:
        """The predictions of the first model, for images, patients and findings."""
        return self.readings[0].predictions

    @property
    def answer(self) -> str:
        """Whether a model is shown to be better at a finding, in a sentence."""
        size = f"{len(self.made)} images of {len(set(self.made.patients))} patients"
        if not self.pairs:
            name, of = next(iter(self.means.items()))
            return f"{name} has a mean AUC of {interval(of['auc'])} on {size}; nothing compared."
        clear = min(self.pairs, key=lambda pair: (pair.p_holm, pair.test.p))
        tested = f"p = {p_value(clear.p_holm)} by patient".replace("= <", "<")
        words = f"{clear.finding}, {clear.first} minus {clear.second}: AUC {interval(clear.auc)}"
        words += f", {tested}, corrected for {len(self.pairs)} tests"
        if clear.p_holm < _LEVEL:
            return f"Two models differ on {size} ({words})."
        return f"No model is shown to be better than another on {size} ({words})."

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; no file name and no patient."""
        return {
            "images": len(self.made),
            "patients": len(set(self.made.patients)),
            "findings": list(self.made.names),
            "readers": [
                {"name": r.name, "kind": r.kind, "origin": r.origin} for r in self.readings
            ],
            "settings": dict(vars(self.settings)),
            "figures": {name: _plain(of) for name, of in self.means.items()},
            "per_finding": {
                name: {finding: _plain(of) for finding, of in of_model.items()}
                for name, of_model in self.of_finding.items()
            },
            "pairs": [pair.to_dict() for pair in self.pairs],
            "notes": self.notes,
        }

    def summary(self) -> dict[str, Any]:
        """Return the mean area of each model, the smallest p, and the answer in words."""
        return {
            "images": len(self.made),
            "patients": len(set(self.made.patients)),
            "auc": {name: of["auc"].value for name, of in self.means.items()},
            "smallest_p_holm": min((pair.p_holm for pair in self.pairs), default=None),
            "answer": self.answer,
        }

    def sheets(self) -> list[Sheet]:
        """Return the tables that have rows."""
        return [sheet for sheet in (self._means(), self._findings(), self._pairs()) if sheet.rows]

    def plots(self) -> dict[str, Plot]:
        """Return no picture."""
        return {}

    def page(self) -> dict[str, Any]:
        """Return who read what."""
        return {
            "images": len(self.made),
            "patients": len(set(self.made.patients)),
            "readers": [(one.name, one.kind, one.origin) for one in self.readings],
            "settings": self.settings,
            "answer": self.answer,
        }

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

    def _pairs(self) -> Sheet:
        columns = (
            ("Finding", "finding", TEXT),
            ("First", "first", TEXT),
            ("Second", "second", TEXT),
            ("AUC, first minus second", "auc", INTERVAL),
            ("Patients who differ", "differing_patients", NUMBER),
            ("p by patient", "p", P_VALUE),
            ("p, Holm", "p_holm", P_VALUE),
        )
        rows: list[tuple[Cell, ...]] = [
            (p.finding, p.first, p.second, p.auc, p.test.differing_patients, p.test.p, p.p_holm)
            for p in self.pairs
        ]
        return Sheet("differences", "Each two models, finding by finding", columns, rows)


def _plain(of: Mapping[str, Interval]) -> dict[str, Any]:
    return {key: one.to_dict() for key, one in of.items()}


def compare(
    readings: Sequence[Reading],
    settings: Settings,
    *,
    groups: Mapping[str, Mapping[str, str]],
    experts: Path | None,
) -> FindingsComparison:
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
    return FindingsComparison(
        readings,
        settings,
        {name: intervals_of(of["figures"][name]) for name, of in found.items()},
        {
            name: {finding: intervals_of(one) for finding, one in of["per_finding"].items()}
            for name, of in found.items()
        },
        _all_pairs(readings),
    )


def _all_pairs(readings: Sequence[Reading]) -> list[FindingPair]:
    names = readings[0].predictions.names
    asked = (_pair(*two, k) for two in combinations(readings, 2) for k in range(len(names)))
    found = [pair for pair in asked if pair is not None]
    corrected = holm([pair.test.p for pair in found])
    return [
        replace(pair, p_holm=1.0 if p is None else p)
        for pair, p in zip(found, corrected, strict=True)
    ]


def _pair(first: Reading, second: Reading, k: int) -> FindingPair | None:
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
    return FindingPair(one.names[k], first.name, second.name, difference, test)
