import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.config.experiment.training import SCHEDULES
from primia_flwr.training.schedules import CURVES, learning_rate
from tests.training.tiny_training import PLAIN

CFG = replace(PLAIN, learning_rate=1.0, min_learning_rate=0.01)


def test_every_configurable_schedule_is_in_the_table() -> None:
    assert tuple(CURVES) == SCHEDULES


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1.0, 1.0, 1.0]),
        ("log_linear", [1.0, 0.1, 0.01]),  # the geometric mean in the middle
        ("log_cosine", [1.0, 0.1, 0.01]),
        ("one_cycle", [1.0, 0.505, 0.01]),  # the arithmetic mean in the middle
    ],
)
def test_first_middle_and_last_step_of_five(schedule: str, expected: list[float]) -> None:
    cfg = replace(CFG, schedule=schedule)
    assert [learning_rate(cfg, step, 5) for step in (0, 2, 4)] == pytest.approx(expected)


def test_log_cosine_at_a_quarter_by_hand() -> None:
    # exponent (1 - cos(pi/4)) / 2 = 0.146447 of two decades
    rate = learning_rate(replace(CFG, schedule="log_cosine"), 1, 5)
    assert rate == pytest.approx(10 ** (-2 * 0.1464466094))


def test_warm_restarts_begin_each_cycle_at_the_highest_rate() -> None:
    """Two cycles over 9 steps: 0 to 8 are progress 0 to 1, and 4 begins the second cycle."""
    cfg = replace(CFG, schedule="warm_restarts", cycles=2)
    rates = [learning_rate(cfg, step, 9) for step in range(9)]
    half = [1.0, 0.01 + 0.99 * (1 + math.cos(math.pi / 4)) / 2, 0.505]
    assert rates[:3] == rates[4:7] == pytest.approx(half)
    assert rates[8] == pytest.approx(0.01)
    once = [learning_rate(replace(cfg, cycles=1), step, 9) for step in range(9)]
    assert once == [learning_rate(replace(CFG, schedule="one_cycle"), step, 9) for step in range(9)]


def test_linear_warm_up_of_four_steps() -> None:
    cfg = replace(CFG, schedule="constant", warmup=0.4)
    rates = [learning_rate(cfg, step, 10) for step in range(6)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_one_cycle_rises_from_a_25th_along_a_cosine() -> None:
    cfg = replace(CFG, schedule="one_cycle", warmup=0.4)
    rates = [learning_rate(cfg, step, 10) for step in (0, 2, 4)]
    assert rates == pytest.approx([0.04, 0.52, 1.0])


def test_the_last_rate_stays() -> None:
    cfg = replace(CFG, schedule="log_linear")
    assert learning_rate(cfg, 5, 5) == learning_rate(cfg, 500, 5) == pytest.approx(0.01)


def test_a_single_step_runs_at_the_highest_rate() -> None:
    for schedule in SCHEDULES:
        cfg = replace(CFG, schedule=schedule, warmup=0.5)
        assert learning_rate(cfg, 0, 1) == pytest.approx(1.0)


@given(
    schedule=st.sampled_from(SCHEDULES),
    warmup=st.floats(0, 0.99),
    total=st.integers(1, 500),
    step=st.integers(0, 600),
    low=st.floats(1e-8, 1.0),
)
def test_rates_lie_between_the_start_and_the_highest(
    schedule: str, warmup: float, total: int, step: int, low: float
) -> None:
    cfg = replace(CFG, schedule=schedule, warmup=warmup, min_learning_rate=low)
    rate = learning_rate(cfg, step, total)
    assert math.isfinite(rate)
    assert min(low, 1 / 25, 1 / (total + 1)) * (1 - 1e-9) <= rate <= 1 + 1e-9
