"""Figures over all and of each part, a class or a finding: read back, with intervals, and shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

from primia_flwr.errors import DataError
from primia_flwr.numbers import BRACKETS, figure, interval
from primia_flwr.statistics.intervals import Interval
from primia_flwr.tasks.judge import Evidence, Judge, ModelScores, intervals_of, with_words


class ScoresByPart(ModelScores):
    """Scores that are a dataclass.

    `part_key`: its field with the scores of each part, by name; `part_type`: what each of them is,
    perhaps with a `note`; `whole`: the names of the figures over all.
    """

    part_key: ClassVar[str] = "per_class"
    part_type: ClassVar[Any]
    whole: ClassVar[tuple[str, ...]]

    @property
    def parts(self) -> dict[str, Any]:
        """The scores of each part, by name."""
        return dict(getattr(self, self.part_key))

    @property
    def notes(self) -> tuple[str, ...]:
        """Return why figures are missing, one sentence for each part concerned."""
        return tuple(f"{name}: {one.note}" for name, one in self.parts.items() if one.note)

    def figures(self) -> dict[str, float | None]:
        """Return the figures over all by name."""
        return {name: getattr(self, name) for name in self.whole}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read back what `to_dict` wrote.

        Raises
        ------
        DataError
            If a figure is missing or unknown.
        """
        try:
            parts = {name: cls.part_type(**one) for name, one in values[cls.part_key].items()}
            return cls(**{**values, cls.part_key: parts})
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"scores: {error}; expected the entries of one model in metrics.json; "
                "write it again with primia evaluate"
            ) from None


@dataclass(frozen=True)
class PartEvidence(Evidence):
    """`parts`: of the federated model, by part, then by name of a figure."""

    parts: dict[str, dict[str, Interval]] = field(default_factory=dict)

    def intervals(self) -> list[Interval]:
        """Return those of the models, then those of the parts."""
        own = [one for of_part in self.parts.values() for one in of_part.values()]
        return [*super().intervals(), *own]


class PartJudge(Judge):
    """A judge of models with figures of each part.

    `scores_type`: of one model; `shown`: the figures of a part that get intervals; `within`: as of
    the evidence.
    """

    scores_type: ClassVar[type[ScoresByPart]]
    shown: ClassVar[Sequence[str]]
    within: ClassVar[str]

    def read_scores(self, values: Mapping[str, Any]) -> ScoresByPart:
        """Read the entries of one model in metrics.json."""
        return self.scores_type.from_dict(values)

    def read_evidence(self, values: Mapping[str, Any]) -> PartEvidence:
        """Read the intervals, those of the parts among them."""
        of_parts = values[self.scores_type.part_key].items()
        parts = {name: intervals_of(of) for name, of in of_parts}
        known = vars(super().read_evidence(values)) | {"within": self.within}
        return PartEvidence(**known, parts=parts)

    def images_of(self, part: Any) -> Any:
        """Return how many images a part was judged on, as the model card says it."""
        return part.n

    def card(self, scores: Any, evidence: Any) -> dict[str, Any]:
        """Return the images of each part, and its figures with intervals where there are some."""
        key, known = self.scores_type.part_key, evidence.parts if evidence else {}
        return {
            f"{key}_images": {name: self.images_of(one) for name, one in scores.parts.items()},
            key: {
                name: {key: with_words(found) for key, found in figures.items()}
                for name, figures in known.items()
            },
        }

    def texts_of(self, name: str, part: Any, evidence: Any) -> list[str]:
        """Return the figures of a part in words, with intervals where there are some."""
        known = evidence.parts if evidence else {}
        if name in known:
            return [interval(known[name][key], BRACKETS) for key in self.shown]
        return [figure(getattr(part, key)) for key in self.shown]
