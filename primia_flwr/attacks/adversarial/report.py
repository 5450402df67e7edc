"""What is written of changed images: how many are recognised still, by distance."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from matplotlib.figure import Figure

from primia_flwr.attacks.written import Page
from primia_flwr.numbers import figure
from primia_flwr.plotting import drawing, line_style

_LEVELS = 255
_NOTES = (
    "Distance: the largest change of a pixel, in grey levels of 255. 2 levels are hardly seen by a "
    "reader.",
    "PGD is at least as strong as FGSM where it is done well; where it is weaker, raise steps or "
    "restarts: the accuracy that it leaves is an upper bound only.",
    "The attacker holds the model, as everybody does to whom it is given. Federated training, "
    "secure aggregation and differential privacy do not protect against it.",
)


@dataclass(frozen=True)
class Level:
    """The accuracy that is left at a distance of so many grey levels, by method; of `n` images."""

    levels: float
    n: int
    fgsm: float
    pgd: float

    @property
    def sound(self) -> bool:
        """Whether PGD was at least as strong as FGSM."""
        return self.pgd <= self.fgsm

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**asdict(self), "pgd_at_least_as_strong": self.sound}


HEADINGS = ("Distance", "Accuracy, FGSM", "Accuracy, PGD", "PGD at least as strong")


def page_of(levels: Sequence[Level]) -> Page:
    """Return what the page says."""
    rows = [
        [f"{one.levels:g}", figure(one.fgsm), figure(one.pgd), "yes" if one.sound else "no"]
        for one in levels
    ]
    question = "How little must an image change for the model to err?"
    return Page("Adversarial images", question, answer(levels), HEADINGS, rows, _NOTES)


def answer(levels: Sequence[Level]) -> str:
    """Return the accuracy as the images are, and where half of it is lost."""
    first = levels[0]
    text = f"{figure(first.pgd)} of {first.n} images are recognised at {first.levels:g} levels; "
    lost = next((one for one in levels if one.pgd <= levels[0].pgd / 2), None)
    if lost is None:
        return text + f"more than half of these at {levels[-1].levels:g} still."
    text += f"at {lost.levels:g} of {_LEVELS}, {figure(lost.pgd)} are left"
    weak = [f"{one.levels:g}" for one in levels if not one.sound]
    return text + (f"; PGD was weaker than FGSM at {', '.join(weak)}." if weak else ".")


def picture(levels: Sequence[Level]) -> tuple[Figure, str]:
    """Draw accuracy by distance, and say what is seen."""
    with drawing(5.5, 3.6) as (drawn, axes):
        far = [one.levels for one in levels]
        for index, method in enumerate(("fgsm", "pgd")):
            left = [getattr(one, method) for one in levels]
            axes.plot(far, left, label=method.upper(), **line_style(index))
        axes.set(xlabel="largest change of a pixel, grey levels of 255", ylabel="accuracy")
        axes.set(ylim=(-0.02, 1.02))
        axes.legend()
    return drawn, "Accuracy that is left, by how far pixels may change. " + answer(levels)
