"""The first sentences of a report: is the model good, was training safe, can members be told.

Each says what is known and with which uncertainty, and what is not known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from primia_flwr.numbers import count, figure, interval
from primia_flwr.reporting.chapters.privacy import PrivacyAccount
from primia_flwr.reporting.chapters.summed import Summed
from primia_flwr.runs.folder import RunFolder, read_object
from primia_flwr.runs.secure_sums import totals
from primia_flwr.tasks.judge import ModelScores

_LOCAL = " local"


def answers(
    folder: RunFolder, account: PrivacyAccount | None, summed: Summed | None
) -> list[tuple[str, str]]:
    """Return each question of a reader with its answer."""
    return [
        ("Is it good?", _good(folder, account, summed)),
        ("Was it safe?", _safe(folder, account)),
        ("Can somebody be told to have been in the training?", _told(folder, account)),
    ]


def _on_test_images(folder: RunFolder, scores: ModelScores) -> str:
    aim, evidence = folder.task.aim, folder.evidence
    known = evidence.figures["Federated"].get(aim.name) if evidence else None
    value = interval(known) if known else figure(scores.figures()[aim.name])
    if known and known.low is None and known.note:
        value += f" (no interval: {known.note})"
    patients = f" of {count(evidence.patients)} patients" if evidence else ""
    others = compared(folder) or "; no baseline was trained to compare it with"
    return (
        f"On {count(scores.n)} test images{patients} that no site trained on, its {aim.words} "
        f"is {value}{others}."
    )


def _good(folder: RunFolder, account: PrivacyAccount | None, summed: Summed | None) -> str:
    scores = folder.results.get("Federated")
    if scores is not None:
        return _on_test_images(folder, scores)
    if summed is not None:
        return (
            f"On the sites' own {count(summed.images)} validation images, added up, the "
            f"{summed.words} (95 % by image). They also chose the model, so this flatters it; no "
            "test set and no baseline is at hand."
        )
    if account is not None:
        return "Nobody knows yet: a private run sends no scores. primia evaluate measures it."
    return "Nobody knows yet: no image was scored. primia evaluate measures it."


def compared(folder: RunFolder) -> str:
    """Return how the model's aim compares with the best site alone and with pooled training."""
    aim = folder.task.aim
    reached = {name: scores.figures()[aim.name] for name, scores in folder.results.items()}
    known = {name: value for name, value in reached.items() if value is not None}
    if "Federated" not in known:
        return ""
    words, own = [], known["Federated"]
    local = {name: value for name, value in known.items() if name.endswith(_LOCAL)}
    if local:
        best = next(name for name in local if local[name] == aim.best(local.values()))
        site = best.removesuffix(_LOCAL)
        words.append(f"{_difference(own - local[best])} the best single site ({site})")
    if "Centralised" in known:
        gap = _difference(own - known["Centralised"])
        words.append(f"{gap} training on all data in one place")
    return f": {' and '.join(words)}" if words else ""


def _difference(gap: float) -> str:
    if abs(gap) < 0.0005:
        return "level with"
    return f"{abs(gap):.3f} {'above' if gap > 0 else 'below'}"


def _safe(folder: RunFolder, account: PrivacyAccount | None) -> str:
    secure = folder.run.get("secure_aggregation")
    if secure is True:
        least = totals(folder.secure.rows).smallest_sum
        over = f" over {least} or more sites" if least else ""
        seen = f"Secure aggregation: the coordinator saw sums{over}, and no single site's update"
        if words := folder.run.get("seen"):
            seen = f"{words}; it saw no single site's update"
    elif words := folder.run.get("seen"):
        seen = f"{words}, which can betray images"
    elif secure is False:
        seen = "Plain averaging: the coordinator saw every site's update, which can betray images"
    else:
        seen = "Whether the sites' updates were hidden from the coordinator was not written down"
    noisy = "with" if account else "without"
    return f"{seen}; {noisy} differential privacy; no image left a site."


def _told(folder: RunFolder, account: PrivacyAccount | None) -> str:
    measured = _measured(folder)
    if account is None:
        return f"Perhaps: without differential privacy nothing bounds it.{measured}"
    epsilon, delta = _claimed(account.facts)
    unit = account.facts.get("unit", "patient")
    if epsilon is None:
        return f"It is bounded for each {unit}; the sites' ledgers say how far.{measured}"
    sure = 1 - (1 - delta) / (1 + math.exp(min(epsilon, 700)))
    weak = " That is next to no protection." if sure > 0.99 else ""
    return (
        f"Bounded: epsilon = {epsilon:.3g} at delta = {delta:g} for one {unit}, so whoever "
        f"guesses is right in at most {100 * sure:.0f} of 100 cases where 50 is chance."
        f"{weak}{measured}"
    )


def _claimed(facts: Mapping[str, Any]) -> tuple[float | None, float]:
    epsilon = facts.get("epsilon") or facts.get("epsilon_asked")
    return epsilon, float(facts.get("delta") or 0)


def _measured(folder: RunFolder) -> str:
    """Return what an attack on this run found, if one lies in its folder."""
    found = read_object(folder.path / "membership" / "membership.json").get("answer")
    if isinstance(found, str):
        return f" Measured: {found}"
    return " primia attack membership measures it."
