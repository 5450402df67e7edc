"""Two models of several findings side by side: differences and tests, over known labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from primia_flwr.config.rows import TASKS
from primia_flwr.errors import ConfigError
from primia_flwr.tasks.judge import Settings
from primia_flwr.tasks.predictions import MODEL, Predictions, Reading

JUDGE = TASKS["multilabel"].judge
NAMES = ("effusion", "nodule", "hernia")
SETTINGS = Settings(seed=0, resamples=100)


def readings(unknown: float = 0.0) -> list[Reading]:
    """A good and a poor model; the hernia is present on one image only."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, (80, 3))
    labels[:, 2] = np.arange(80) == 0
    labels[rng.random((80, 3)) < 0.2] = -1
    made = []
    for strength in (2.0, 0.2):
        p = 1 / (1 + np.exp(-(strength * (labels == 1) + rng.normal(size=(80, 3)) - 0.5)))
        p[labels == -1] = unknown
        files, patients = zip(*((f"{k}.png", f"p{k // 2:02d}") for k in range(80)), strict=True)
        made.append(Predictions(files, patients, labels, p, NAMES))
    return [Reading(name, MODEL, "", one) for name, one in zip("ab", made, strict=True)]


def compared(given: list[Reading], **changes):
    words = {"validation": {}, "groups": {}, "experts": None, **changes}
    return JUDGE.compare(given, SETTINGS, **words)


def test_the_difference_is_that_of_the_areas():
    given = readings()
    found = compared(given)
    assert [(p.finding, p.first, p.second) for p in found.pairs] == [
        ("effusion", "a", "b"), ("nodule", "a", "b"),
    ]  # fmt: skip
    labels = given[0].predictions.labels
    for k, pair in enumerate(found.pairs):
        known = labels[:, k] >= 0
        one, other = (
            roc_auc_score(labels[known, k], r.predictions.outputs[known, k]) for r in given
        )
        assert pair.auc.value == pytest.approx(one - other)
        assert found.of_finding["a"][pair.finding]["auc"].value == pytest.approx(one)
        assert pair.p_holm >= pair.test.p
    assert min(pair.p_holm for pair in found.pairs) < 0.05
    assert found.answer.startswith("Two models differ on 80 images of 40 patients (")
    assert [sheet.name for sheet in found.sheets()] == ["figures", "findings", "differences"]
    json.dumps(found.to_dict(), allow_nan=False)


def test_what_models_say_of_unknown_labels_changes_nothing():
    assert compared(readings()).to_dict() == compared(readings(unknown=0.9)).to_dict()


def test_people_and_groups_are_refused():
    with pytest.raises(ConfigError, match=r"experts=e\.csv with data.task=multilabel; expected"):
        compared(readings(), experts=Path("e.csv"))
    with pytest.raises(ConfigError, match=r"groups of scanner with data.task=multilabel"):
        compared(readings(), groups={"scanner": {}})
