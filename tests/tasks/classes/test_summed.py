"""Figures of counts that sites summed, against Wilson's interval by hand and draws."""

from __future__ import annotations

import numpy as np
import pytest

from primia_flwr.tasks.classes.bootstrap import confusion_figures
from primia_flwr.tasks.classes.summed import summed_figures

NAMES = ("normal", "viral", "other")
COUNTS = np.array([[80, 15, 5], [10, 40, 0], [0, 0, 0]])


def test_rates_have_wilsons_interval_by_image() -> None:
    found = summed_figures(COUNTS, NAMES)
    # 120 of 150: (0.8 + z^2/300 +- z sqrt(0.8 * 0.2 / 150 + z^2 / 90000)) / (1 + z^2 / 150)
    accuracy = found["accuracy", ""]
    assert accuracy.value == pytest.approx(0.8)
    assert (accuracy.low, accuracy.high) == pytest.approx((0.72890, 0.85618), abs=1e-4)
    viral = found["sensitivity", "viral"]
    assert viral.value == pytest.approx(0.8)
    assert (viral.low, viral.high) == pytest.approx((0.66963, 0.88756), abs=1e-4)
    assert found["specificity", "viral"].value == pytest.approx(85 / 100)
    assert found["specificity", "other"].value == pytest.approx(145 / 150)
    assert found["sensitivity", "other"].value is None


def test_mcc_has_the_percentiles_of_draws() -> None:
    found = summed_figures(COUNTS, NAMES)["mcc", ""]
    value = confusion_figures(COUNTS[None].astype(float))[1, 0]
    assert found.value == pytest.approx(value)
    assert found.low is not None
    assert found.high is not None
    assert 0.35 < found.low < value < found.high < 0.8
    assert found == summed_figures(COUNTS, NAMES)["mcc", ""], "the same each time"


def test_a_perfect_model_has_rates_below_one_and_no_interval_of_mcc() -> None:
    found = summed_figures(np.diag([10, 20]), ("a", "b"))
    assert found["accuracy", ""].low == pytest.approx(30 / (30 + 1.959964**2))
    assert (found["mcc", ""].value, found["mcc", ""].low) == (1, None)
