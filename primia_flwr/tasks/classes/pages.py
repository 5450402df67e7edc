"""What report, model card and terminal show of the classes of one model."""

from __future__ import annotations

from typing import Any

from primia_flwr.numbers import BRACKETS, count, figure, interval
from primia_flwr.tables import NUMBER, TEXT, Sheet
from primia_flwr.tasks.classes.evidence import ClassEvidence
from primia_flwr.tasks.classes.scores import Scores
from primia_flwr.tasks.judge import with_words

_RATES = ("sensitivity", "specificity", "roc_auc")


def class_sheet(scores: Scores) -> Sheet:
    """Return the table of the classes."""
    columns = (
        ("Class", "class", TEXT),
        ("Images", "images", NUMBER),
        ("Sensitivity", "sensitivity", NUMBER),
        ("Specificity", "specificity", NUMBER),
        ("ROC-AUC", "roc_auc", NUMBER),
    )
    rows = [(name, one.n, *(getattr(one, key) for key in _RATES))
            for name, one in scores.per_class.items()]  # fmt: skip
    return Sheet("classes", "Each class against all others", columns, rows)


def class_rows(scores: Scores, evidence: ClassEvidence | None) -> list[list[str]]:
    """Return the lines of the report's table of classes, with intervals where there are some."""
    known = evidence.per_class if evidence else {}
    rows = []
    for name, one in scores.per_class.items():
        found = [
            interval(known[name][key], BRACKETS) if name in known else figure(getattr(one, key))
            for key in _RATES
        ]
        rows.append([name, count(one.n), *found])
    return rows


def card(scores: Scores, evidence: ClassEvidence | None) -> dict[str, Any]:
    """Return what model_card.json holds beside the tested figures."""
    per_class = evidence.per_class if evidence else {}
    return {
        "confusion": scores.confusion,
        "per_class_images": {name: one.n for name, one in scores.per_class.items()},
        "per_class": {
            name: {key: with_words(found) for key, found in figures.items()}
            for name, figures in per_class.items()
        },
        "ece": evidence.reliability.ece if evidence else None,
        "brier": evidence.reliability.brier if evidence else None,
    }
