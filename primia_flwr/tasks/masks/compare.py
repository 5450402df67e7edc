"""Compare models that segment the same images: figures of each, and of each two the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from primia_flwr.errors import ConfigError
from primia_flwr.statistics.by_patient import patient_sums
from primia_flwr.statistics.intervals import Interval, Statistic, bootstrap_limits, bootstrapped
from primia_flwr.statistics.sign_flips import sign_flips
from primia_flwr.tables import INTERVAL, NUMBER, TEXT, Cell, Sheet
from primia_flwr.tasks.compared import ModelPair, ModelsCompared, corrected
from primia_flwr.tasks.judge import Settings
from primia_flwr.tasks.masks.evidence import (
    Judged,
    figures_with_intervals,
    mask_statistic,
    strata_of,
)
from primia_flwr.tasks.masks.scores import FIGURES
from primia_flwr.tasks.predictions import Reading

_FEW = 10  # patients, below which a group is counted only
_HEADS = ("Dice", "IoU", "Hausdorff 95 %, px", "Surface distance, px")
_Figures = dict[tuple[str, str], Interval]


@dataclass(frozen=True)
class _MaskPair(ModelPair):
    """Two models; `dice` is the mean Dice of the first minus that of the second."""

    dice: Interval

    @property
    def difference(self) -> Interval:
        """The difference of Dice."""
        return self.dice


@dataclass(frozen=True)
class _MaskComparison(ModelsCompared):
    """Figures of each model with intervals, of each two the difference, and of groups the Dice."""

    figures: dict[str, _Figures]
    pairs: list[_MaskPair]
    groups: list[tuple[str, str, str, int, Interval]]
    notes: list[str] = field(default_factory=list)
    template = "segmentation_compare"
    figure = ("dice", "Dice")

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes but the background."""
        return self.made.names[1:]

    @property
    def first_figures(self) -> dict[str, Interval]:
        """The Dice of each model."""
        return {name: of["dice", ""] for name, of in self.figures.items()}

    @property
    def tested(self) -> list[_MaskPair]:
        """Each two models."""
        return self.pairs

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; no file name and no patient."""
        return self.about() | {
            "classes": list(self.made.names),
            "figures": {
                name: {
                    figure: {one or "all": of[figure, one].to_dict() for one in ("", *self.classes)}
                    for figure in FIGURES
                }
                for name, of in self.figures.items()
            },
            "pairs": [asdict(pair) for pair in self.pairs],
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

    def sheets(self) -> list[Sheet]:
        """Return the tables that have rows."""
        pairs = self.differences("Each two models")
        made = [self._figures(), self._classes(), pairs, self._groups()]
        return [sheet for sheet in made if sheet.rows]

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
) -> _MaskComparison:
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
    return _MaskComparison(
        readings,
        settings,
        figures_with_intervals(judged, **draws),
        _pairs(judged, **draws),
        _groups(readings, groups, **draws),
    )


def _pairs(judged: Mapping[str, Judged], *, seed: int, resamples: int) -> list[_MaskPair]:
    found = combinations(judged, 2)
    return corrected([_pair(*two, judged, seed=seed, resamples=resamples) for two in found])


def _pair(
    first: str, second: str, judged: Mapping[str, Judged], *, seed: int, resamples: int
) -> _MaskPair:
    made, one, other = judged[first].made, judged[first], judged[second]
    strata = strata_of(made)
    statistic = _difference(mask_statistic(one, strata), mask_statistic(other, strata))
    rng = np.random.default_rng(seed)
    limits = bootstrap_limits(statistic, strata, rng=rng, resamples=resamples)
    row = np.stack(limits, axis=1)[0]
    images = one.cases.image_dice() - other.cases.image_dice()
    test = sign_flips(patient_sums(images, made.patients))
    dice = bootstrapped(row, patients=strata.size, rate=False)
    return _MaskPair(first, second, test, 1.0, dice)


def _difference(first: Statistic, second: Statistic) -> Statistic:
    """Return the difference of the first row of two statistics, the mean Dice."""
    return lambda weights: first(weights)[:1] - second(weights)[:1]


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
