"""Compare models that segment the same images: figures of each, and of each two the difference."""

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
from primia_flwr.statistics.arrays import FloatArray
from primia_flwr.statistics.by_patient import patient_sums
from primia_flwr.statistics.intervals import Interval, Statistic, bootstrap_limits, bootstrapped
from primia_flwr.statistics.sign_flips import SignFlips, sign_flips
from primia_flwr.tables import INTERVAL, NUMBER, P_VALUE, TEXT, Cell, Sheet
from primia_flwr.tasks.judge import Comparison, Settings
from primia_flwr.tasks.masks.evidence import (
    Judged,
    figures_with_intervals,
    mask_statistic,
    strata_of,
)
from primia_flwr.tasks.masks.scores import FIGURES
from primia_flwr.tasks.predictions import Reading

_LEVEL = 0.05
_FEW = 10  # patients, below which a group is counted only
_HEADS = ("Dice", "IoU", "Hausdorff 95 %, px", "Surface distance, px")
_Figures = dict[tuple[str, str], Interval]


@dataclass(frozen=True)
class MaskPair:
    """Two models; `dice` is the mean Dice of the first minus that of the second.

    `test`: whether the patients' differences lie around 0; `p_holm` corrects for all pairs.
    """

    first: str
    second: str
    dice: Interval
    test: SignFlips
    p_holm: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class MaskComparison(Comparison):
    """Figures of each model with intervals, of each two the difference, and of groups the Dice."""

    readings: Sequence[Reading]
    settings: Settings
    figures: dict[str, _Figures]
    pairs: list[MaskPair]
    groups: list[tuple[str, str, str, int, Interval]]
    notes: list[str] = field(default_factory=list)
    template = "segmentation_compare"

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes but the background."""
        return self.readings[0].predictions.names[1:]

    @property
    def answer(self) -> str:
        """Whether a model is shown to be better, in a sentence."""
        made = self.readings[0].predictions
        size = f"{len(made)} images of {len(set(made.patients))} patients"
        if not self.pairs:
            name, of = next(iter(self.figures.items()))
            return f"{name} has a Dice of {interval(of['dice', ''])} on {size}; nothing compared."
        clear = min(self.pairs, key=lambda pair: (pair.p_holm, pair.test.p))
        tested = f"p = {p_value(clear.p_holm)} by patient".replace("= <", "<")
        words = f"{clear.first} minus {clear.second}: Dice {interval(clear.dice)}, {tested}"
        words += f", corrected for {len(self.pairs)} pairs" if len(self.pairs) > 1 else ""
        if clear.p_holm < _LEVEL:
            return f"Two models differ on {size} ({words})."
        return f"No model is shown to be better than another on {size} ({words})."

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; no file name and no patient."""
        made = self.readings[0].predictions
        return {
            "images": len(made),
            "patients": len(set(made.patients)),
            "classes": list(made.names),
            "readers": [
                {"name": r.name, "kind": r.kind, "origin": r.origin} for r in self.readings
            ],
            "settings": dict(vars(self.settings)),
            "figures": {
                name: {
                    figure: {one or "all": of[figure, one].to_dict() for one in ("", *self.classes)}
                    for figure in FIGURES
                }
                for name, of in self.figures.items()
            },
            "pairs": [pair.to_dict() for pair in self.pairs],
            "groups": [
                {
                    "column": column,
                    "group": group,
                    "reader": name,
                    "images": n,
                    "dice": of.to_dict(),
                }
                for column, group, name, n, of in self.groups
            ],
            "notes": self.notes,
        }

    def summary(self) -> dict[str, Any]:
        """Return the Dice of each model, the smallest p, and the answer in words."""
        made = self.readings[0].predictions
        return {
            "images": len(made),
            "patients": len(set(made.patients)),
            "dice": {name: of["dice", ""].value for name, of in self.figures.items()},
            "smallest_p_holm": min((pair.p_holm for pair in self.pairs), default=None),
            "answer": self.answer,
        }

    def sheets(self) -> list[Sheet]:
        """Return the tables that have rows."""
        made = [self._figures(), self._classes(), self._differences(), self._groups()]
        return [sheet for sheet in made if sheet.rows]

    def plots(self) -> dict[str, Plot]:
        """Return no picture."""
        return {}

    def page(self) -> dict[str, Any]:
        """Return who segmented what."""
        made = self.readings[0].predictions
        return {
            "images": len(made),
            "patients": len(set(made.patients)),
            "readers": [(one.name, one.kind, one.origin) for one in self.readings],
            "settings": self.settings,
            "answer": self.answer,
        }

    def _figures(self) -> Sheet:
        rows: list[tuple[Cell, ...]] = [
            (name, *(of[figure, ""] for figure in FIGURES)) for name, of in self.figures.items()
        ]
        return Sheet("figures", "Each model, mean over classes", _columns("Model"), rows)

    def _classes(self) -> Sheet:
        rows: list[tuple[Cell, ...]] = [
            (one, name, *(of[figure, one] for figure in FIGURES))
            for one in self.classes
            for name, of in self.figures.items()
        ]
        return Sheet("classes", "Each class", _columns("Class", "Model"), rows)

    def _differences(self) -> Sheet:
        columns = (
            ("First", "first", TEXT),
            ("Second", "second", TEXT),
            ("Dice, first minus second", "dice", INTERVAL),
            ("Patients who differ", "differing_patients", NUMBER),
            ("p by patient", "p", P_VALUE),
            ("p, Holm", "p_holm", P_VALUE),
        )
        rows: list[tuple[Cell, ...]] = [
            (p.first, p.second, p.dice, p.test.differing_patients, p.test.p, p.p_holm)
            for p in self.pairs
        ]
        return Sheet("differences", "Each two models", columns, rows)

    def _groups(self) -> Sheet:
        columns = (
            ("Column", "column", TEXT),
            ("Group", "group", TEXT),
            ("Model", "model", TEXT),
            ("Images", "images", NUMBER),
            ("Dice", "dice", INTERVAL),
        )
        rows: list[tuple[Cell, ...]] = list(self.groups)
        return Sheet("subgroups", "Groups of images", columns, rows)


def _columns(*first: str) -> tuple[tuple[str, str, str], ...]:
    named = [(name, name.lower(), TEXT) for name in first]
    return (*named, *((h, key, INTERVAL) for h, key in zip(_HEADS, FIGURES, strict=True)))


def compare(
    readings: Sequence[Reading],
    settings: Settings,
    *,
    groups: Mapping[str, Mapping[str, str]],
    experts: Path | None,
) -> MaskComparison:
    """Compute the tables; arguments as of `Judge.compare`.

    Raises
    ------
    ConfigError
        If human readers are given, who name classes and draw no masks.
    """
    if experts:
        raise ConfigError(
            f"experts={experts} with data.task=segmentation; expected none: a CSV of readers holds "
            "classes of images, no masks"
        )
    judged = {one.name: Judged.of(one.predictions) for one in readings}
    draws = {"seed": settings.seed, "resamples": settings.resamples}
    return MaskComparison(
        readings,
        settings,
        figures_with_intervals(judged, **draws),
        _pairs(judged, **draws),
        _groups(readings, groups, **draws),
    )


def _pairs(judged: Mapping[str, Judged], *, seed: int, resamples: int) -> list[MaskPair]:
    found = [
        _pair(*couple, judged, seed=seed, resamples=resamples) for couple in combinations(judged, 2)
    ]
    corrected = holm([pair.test.p for pair in found])
    return [
        replace(pair, p_holm=1.0 if p is None else p)
        for pair, p in zip(found, corrected, strict=True)
    ]


def _pair(
    first: str, second: str, judged: Mapping[str, Judged], *, seed: int, resamples: int
) -> MaskPair:
    made, one, other = judged[first].made, judged[first], judged[second]
    strata = strata_of(made)
    statistic = _difference(mask_statistic(one, strata), mask_statistic(other, strata))
    rng = np.random.default_rng(seed)
    limits = bootstrap_limits(statistic, strata, rng=rng, resamples=resamples)
    row = np.stack(limits, axis=1)[0]
    images = _image_dice(one) - _image_dice(other)
    test = sign_flips(patient_sums(images, made.patients))
    dice = bootstrapped(row, patients=strata.size, rate=False)
    return MaskPair(first, second, dice, test, 1.0)


def _difference(first: Statistic, second: Statistic) -> Statistic:
    """Return the difference of the first row of two statistics, the mean Dice."""
    return lambda weights: first(weights)[:1] - second(weights)[:1]


def _image_dice(judged: Judged) -> FloatArray:
    """Return the mean Dice of each image; 1 where nothing is there and nothing was called."""
    return np.nan_to_num(judged.cases.of_image("dice"), nan=1.0)


def _groups(
    readings: Sequence[Reading],
    groups: Mapping[str, Mapping[str, str]],
    *,
    seed: int,
    resamples: int,
) -> list[tuple[str, str, str, int, Interval]]:
    found = []
    files = readings[0].predictions.files
    for column, of in groups.items():
        for group in sorted(set(of.values())):
            rows = np.array([k for k, file in enumerate(files) if of.get(file) == group], np.int64)
            if not rows.size:
                continue
            judged = {r.name: Judged.of(r.predictions.select(rows)) for r in readings}
            few = len({readings[0].predictions.patients[k] for k in rows}) < _FEW
            figures = figures_with_intervals(judged, seed=seed, resamples=resamples)
            for name, one in figures.items():
                shown = one["dice", ""]
                if few:
                    shown = Interval(shown.value, note=f"fewer than {_FEW} patients")
                found.append((column, group, name, len(rows), shown))
    return found
