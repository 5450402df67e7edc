"""What comparisons of models alone have in common: who is compared, the answer, the pairs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from primia_flwr.numbers import interval, p_value
from primia_flwr.plotting import Plot
from primia_flwr.statistics.agreement import holm
from primia_flwr.statistics.intervals import Interval
from primia_flwr.statistics.sign_flips import SignFlips
from primia_flwr.tables import INTERVAL, NUMBER, P_VALUE, TEXT, Cell, Sheet
from primia_flwr.tasks.judge import Comparison, Settings
from primia_flwr.tasks.predictions import Predictions, Reading

_LEVEL = 0.05


@dataclass(frozen=True)
class ModelPair:
    """Two models on the same images.

    `test`: whether the patients' differences lie around 0; `p_holm` corrects for all of a table.
    """

    first: str
    second: str
    test: SignFlips
    p_holm: float

    @property
    @abstractmethod
    def difference(self) -> Interval:
        """The first's figure minus the second's."""

    @property
    def names(self) -> str:
        """What is compared, in words."""
        return f"{self.first} minus {self.second}"


_Pair = TypeVar("_Pair", bound=ModelPair)


def corrected(pairs: Sequence[_Pair]) -> list[_Pair]:
    """Return pairs with p-values that are corrected for their number (Holm 1979)."""
    found = holm([pair.test.p for pair in pairs])
    return [
        replace(pair, p_holm=1.0 if p is None else p) for pair, p in zip(pairs, found, strict=True)
    ]


@dataclass(frozen=True)
class ModelsCompared(Comparison):
    """Models on the same images; a subclass has `pairs`, perhaps none.

    `figure`: the key and the words of what each model is judged by first.
    """

    readings: Sequence[Reading]
    settings: Settings
    figure: ClassVar[tuple[str, str]]

    @property
    @abstractmethod
    def first_figures(self) -> dict[str, Interval]:
        """What each model is judged by first."""

    @property
    @abstractmethod
    def tested(self) -> Sequence[ModelPair]:
        """The pairs."""

    @property
    def made(self) -> Predictions:
        """The predictions of the first model, for images, patients and names."""
        return self.readings[0].predictions

    @property
    def answer(self) -> str:
        """Whether a model is shown to be better, in a sentence."""
        size = f"{len(self.made)} images of {len(set(self.made.patients))} patients"
        if not self.tested:
            name, found = next(iter(self.first_figures.items()))
            return f"{name}: {self.figure[1]} {interval(found)} on {size}; nothing compared."
        clear = min(self.tested, key=lambda pair: (pair.p_holm, pair.test.p))
        p = f"p = {p_value(clear.p_holm)} by patient".replace("= <", "<")
        words = f"{clear.names}: {self.figure[1]} {interval(clear.difference)}, {p}"
        words += f", corrected for {len(self.tested)} tests" if len(self.tested) > 1 else ""
        if clear.p_holm < _LEVEL:
            return f"Two models differ on {size} ({words})."
        return f"No model is shown to be better than another on {size} ({words})."

    def about(self) -> dict[str, Any]:
        """Return what was compared, as plain JSON values."""
        return {
            "images": len(self.made),
            "patients": len(set(self.made.patients)),
            "readers": [
                {"name": r.name, "kind": r.kind, "origin": r.origin} for r in self.readings
            ],
            "settings": dict(vars(self.settings)),
        }

    def summary(self) -> dict[str, Any]:
        """Return each model's first figure, the smallest p, and the answer in words."""
        about = self.about()
        return {
            "images": about["images"],
            "patients": about["patients"],
            self.figure[0]: {name: one.value for name, one in self.first_figures.items()},
            "smallest_p_holm": min((pair.p_holm for pair in self.tested), default=None),
            "answer": self.answer,
        }

    def page(self) -> dict[str, Any]:
        """Return who read what."""
        readers = [(one.name, one.kind, one.origin) for one in self.readings]
        return self.about() | {
            "readers": readers, "settings": self.settings, "answer": self.answer
        }  # fmt: skip

    def plots(self) -> dict[str, Plot]:
        """Return no picture."""
        return {}

    def differences(self, caption: str, *first: str) -> Sheet:
        """Return the table of the pairs; `first`: attributes of a pair that come before."""
        key, words = self.figure
        columns = (
            *((name.capitalize(), name, TEXT) for name in (*first, "first", "second")),
            (f"{words}, first minus second", key, INTERVAL),
            ("Patients who differ", "differing_patients", NUMBER),
            ("p by patient", "p", P_VALUE),
            ("p, Holm", "p_holm", P_VALUE),
        )
        rows: list[tuple[Cell, ...]] = [
            (
                *(getattr(pair, name) for name in (*first, "first", "second")),
                *(pair.difference, pair.test.differing_patients, pair.test.p, pair.p_holm),
            )
            for pair in self.tested
        ]
        return Sheet("differences", caption, columns, rows)
