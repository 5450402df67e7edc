"""What is written of lying sites: how each rule answered each lie."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from primia_flwr.attacks.poisoning.federation import Outcome
from primia_flwr.attacks.poisoning.liars import ATTACKS
from primia_flwr.attacks.written import Page
from primia_flwr.numbers import figure
from primia_flwr.plotting import MUTED, drawing, line_style

_WORDS = {
    "none": "nobody lies",
    "label_flip": "labels flipped",
    "boosted": "labels flipped, update boosted",
    "backdoor": "back door",
}
_NOTES = (
    "Boosted: the update is multiplied by the number of sites over the number of liars, with "
    "which a mean of equal sites becomes the liar's own model.",
    "Trigger: of the test images of other classes, the share that is taken for the target once "
    "it bears the white square; in brackets without it. A back door works where the two differ.",
    "Rules that look at single updates need aggregation=plain: what protects against sites that "
    "lie and what protects against the coordinator exclude one another. secure: the mean under "
    "secure aggregation, with every number of an update clipped, as each site does by itself. A "
    "liar need not; then only the bounds of the sum hold it.",
    "One federation, one seed, few rounds: rules that differ by little need not differ at all.",
)


@dataclass(frozen=True)
class Cell:
    """How one rule answered one lie; `reason` where it could not."""

    attack: str
    rule: str
    outcome: Outcome | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        found = asdict(self.outcome) if self.outcome else {}
        return {"attack": self.attack, "rule": self.rule, **found, "reason": self.reason}

    @property
    def mcc(self) -> float | None:
        """The objective on the test images."""
        figures = self.outcome.figures if self.outcome else None
        return figures["mcc"] if figures else None

    def row(self) -> list[str]:
        """Return the cells of the table's row."""
        name = _WORDS[self.attack]
        if self.outcome is None:
            return [name, self.rule, "not run", "", "", self.reason]
        figures = self.outcome.figures
        if figures is None:
            return [name, self.rule, "diverged", "", "", "the model is not finite"]
        trigger = f"{figure(self.outcome.success)} ({figure(self.outcome.without)})"
        accuracy, mcc = figure(figures["accuracy"]), figure(figures["mcc"])
        return [name, self.rule, accuracy, mcc, trigger, ""]


HEADINGS = ("Lie", "Rule", "Accuracy", "MCC", "Trigger", "")


def page_of(cells: Sequence[Cell], facts: Mapping[str, Any]) -> Page:
    """Return what the page says."""
    return Page(
        "Sites that lie",
        f"What can {facts['liars']} of {facts['sites']} sites do to the model?",
        answer(cells),
        HEADINGS,
        [cell.row() for cell in cells],
        _NOTES,
        words=(0, 1, 5),
    )


def answer(cells: Sequence[Cell]) -> str:
    """Return, for each rule, what the worst lie cost it."""
    lines = []
    for rule in dict.fromkeys(cell.rule for cell in cells):
        found = {cell.attack: cell.mcc for cell in cells if cell.rule == rule}
        honest = found.pop("none", None)
        if honest is None or not found:
            continue
        broken = [attack for attack, mcc in found.items() if mcc is None]
        if broken:
            lines.append(f"{rule}: no model ({', '.join(map(_WORDS.__getitem__, broken))})")
            continue
        worst = min(found, key=lambda attack: found[attack] or 0.0)
        lines.append(f"{rule}: MCC {figure(honest)}, {figure(found[worst])} with {_WORDS[worst]}")
    return ("; ".join(lines) or "Nothing was compared: no lie, or no rule without one") + "."


def picture(cells: Sequence[Cell]) -> tuple[Figure, str]:
    """Draw the objective of each rule under each lie, and say what is seen."""
    rules = list(dict.fromkeys(cell.rule for cell in cells))
    attacks = [attack for attack in ATTACKS if any(cell.attack == attack for cell in cells)]
    with drawing(7.5, 3.6) as (drawn, axes):
        for index, attack in enumerate(attacks):
            found = {cell.rule: cell.mcc for cell in cells if cell.attack == attack}
            heights = [np.nan if found.get(r) is None else found[r] for r in rules]
            places = np.arange(len(rules)) + 0.12 * (index - (len(attacks) - 1) / 2)
            style = {**line_style(index), "linestyle": "none"}
            axes.plot(places, heights, label=_WORDS[attack], **style)
        axes.axhline(0, color=MUTED, linewidth=1)
        axes.set_xticks(range(len(rules)), rules)
        axes.set(ylabel="MCC on test images")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return drawn, "The model's MCC on test images under each rule, by what the liars do. " + answer(
        cells
    )
