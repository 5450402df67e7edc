"""What a comparison found, in one or two sentences: whether a reader is shown to be better."""

from __future__ import annotations

from primia_flwr.numbers import figure, interval, p_value
from primia_flwr.statistics.intervals import Interval
from primia_flwr.tasks.classes.readers.compared import Compared
from primia_flwr.tasks.classes.readers.pairs import Pair

LEVEL = 0.05


def answer(found: Compared) -> str:
    """Return it; the p-values are by patient, and corrected for the number of pairs."""
    panel, pairs = found.panel, found.pairs
    size = f"{len(panel)} images of {panel.num_patients} patients"
    if not pairs:
        name, of = next(iter(found.figures.items()))
        return f"{name} is right on a share of {interval(of.accuracy)} of {size}; nothing compared."
    better = [pair for pair in pairs if pair.p_holm is not None and pair.p_holm < LEVEL]
    clear = min(better or pairs, key=lambda pair: (pair.p_holm or 0, pair.mcnemar.p))
    tested = f"p = {p_value(clear.p_holm)} by patient".replace("= <", "<")
    tested += f", corrected for {len(pairs)} pairs" if len(pairs) > 1 else ""
    if better:
        return f"{_winner(clear)} on {size} ({tested}).{_others(len(better) - 1)}"
    least = _least(clear, tested)
    return f"No reader is shown to be right more often than another on {size} ({least})."


def _winner(pair: Pair) -> str:
    """Return who of the two is right more often, and by how much."""
    of, by, names = pair.mcnemar, pair.accuracy_difference, [pair.first, pair.second]
    if of.only_first < of.only_second:
        names.reverse()
        value, low, high = (None if one is None else -one for one in (by.value, by.high, by.low))
        by = Interval(value, low, high)
    return f"{names[0]} is right more often than {names[1]}: accuracy higher by {interval(by)}"


def _others(count: int) -> str:
    if not count:
        return ""
    return f" {count} more pair{'s differ' if count > 1 else ' differs'}; see the table."


def _least(pair: Pair, tested: str) -> str:
    of = pair.mcnemar
    words = (
        f"smallest {tested}; {pair.first} minus {pair.second} {interval(pair.accuracy_difference)}"
    )
    if of.smallest_p < LEVEL:
        return words
    return (
        f"{words}; with {of.differing_patients} patients on whom they differ, no p below "
        f"{figure(of.smallest_p)} is possible"
    )
