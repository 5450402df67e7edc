import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.config.rows import TASKS
from primia_flwr.errors import ConfigError
from primia_flwr.privacy.mechanisms.statistics import (
    GRID_BITS,
    _on_grid,
    cost,
    noisy_sums,
    sensitivity,
)
from primia_flwr.privacy.mechanisms.units import units_of

# Patient a: a black and a white image; b: a white one. Classes 0, 1, 1.
IMAGES = np.zeros((3, 1, 2, 2), np.uint8)
IMAGES[1:] = 255
LABELS, PATIENTS = [0, 1, 1], ["a", "a", "b"]


def test_a_patient_counts_once_whatever_the_number_of_images() -> None:
    # a: mean 1/2, square 1/2, classes 1/2 and 1/2; b: 1, 1, 0 and 1
    found = _on_grid(IMAGES, LABELS, units_of("patient", PATIENTS), 2) / 2**GRID_BITS
    assert found.tolist() == [1.5, 1.5, 0.5, 1.5]
    by_image = _on_grid(IMAGES, LABELS, units_of("image", PATIENTS), 2) / 2**GRID_BITS
    assert by_image.tolist() == [2.0, 2.0, 1.0, 2.0]


def test_the_sensitivity_by_hand() -> None:
    # one channel: sqrt(1 + 1 + 1) * 256, and half a step in each of 2 + 3 entries
    assert sensitivity(1, 3) == pytest.approx(math.sqrt(3) * 256 + math.sqrt(5) / 2)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([1, 3]), st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_no_unit_moves_the_sums_further(seed: int, own: int, channels: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    extreme = rng.integers(0, 2, (own, channels, 3, 3), np.uint8) * np.uint8(255)
    images = np.where(rng.random() < 0.5, extreme, rng.integers(0, 256, extreme.shape, np.uint8))
    labels = rng.integers(0, classes, own).tolist()
    moved = _on_grid(images.astype(np.uint8), labels, units_of("patient", ["p"] * own), classes)
    assert np.linalg.norm(moved) <= sensitivity(channels, classes)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_no_unit_of_several_findings_moves_the_sums_further(
    seed: int, own: int, findings: int
) -> None:
    """Rows of what is present, absent, and each image, made as short as a class's."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 2, (own, 1, 3, 3), np.uint8) * np.uint8(255)
    task, labels = TASKS["multilabel"], torch.from_numpy(rng.integers(-1, 2, (own, findings)))
    rows = task.label_rows(labels, findings).double().numpy() / task.row_norm(findings)
    entries = rows.shape[1]
    assert entries == task.label_sum(findings).size
    moved = _on_grid(images, rows, units_of("patient", ["p"] * own), entries)
    assert np.linalg.norm(moved) <= sensitivity(1, entries)


@pytest.mark.parametrize(
    "rows",
    [
        np.full((3, 2), 0.8),  # a norm of 1.13
        np.array([[1.0, 0.0], [0.0, 1.0], [np.nan, 0.0]]),
        np.array([[1.0, 0.0], [0.0, 1.0], [-0.5, 0.0]]),
        np.full((3, 3), 0.1),
    ],
)
def test_rows_that_the_noise_does_not_hide_are_refused(rows: np.ndarray) -> None:
    units = units_of("patient", PATIENTS)
    with pytest.raises(ConfigError, match="a norm of at most 1, which the noise hides"):
        noisy_sums(IMAGES, rows, units, outputs=2, noise_multiplier=3.0)


def test_the_noise_has_the_variance_that_is_charged_for() -> None:
    units = units_of("patient", [str(i) for i in range(500)])
    images = np.full((500, 1, 1, 1), 128, np.uint8)
    drawn = [
        noisy_sums(images, [0] * 500, units, outputs=2, noise_multiplier=3.0).levels[0]
        for _ in range(400)
    ]
    expected = 3.0 * sensitivity(1, 2) / 2**GRID_BITS  # 5.2 units
    exact = round(128 / 255 * 2**GRID_BITS) / 2**GRID_BITS * 500
    assert np.std(drawn) == pytest.approx(expected, rel=0.15)  # 400 draws: sd known to 3.5 %
    assert np.mean(drawn) == pytest.approx(exact, abs=5 * expected / 20)
    assert cost(3.0).noise_multiplier == 3.0


@pytest.mark.parametrize("smoothing", [0.25, 1.0, 2.0])
def test_discrete_noise_is_continuous_noise_and_a_little_discrete(smoothing: float) -> None:
    """Variance v continuous, then discrete around it: discrete of the sum, up to 2 e^(-2 pi^2 r).

    r is the smaller part's share of both, v smoothing / (v + smoothing); with 9 it is e^-177.
    """
    v, k = 30.0, np.arange(-60, 61)
    y = np.linspace(-70, 70, 280_001)
    normaliser = np.interp(y - np.floor(y), np.linspace(0, 1, 2001), [
        np.exp(-((k - f) ** 2) / (2 * smoothing)).sum() for f in np.linspace(0, 1, 2001)
    ])  # fmt: skip
    density = np.exp(-(y**2) / (2 * v)) / math.sqrt(2 * math.pi * v)
    step = y[1] - y[0]
    mixed = np.array([
        (density * np.exp(-((n - y) ** 2) / (2 * smoothing)) / normaliser).sum() * step
        for n in range(-5, 6)
    ])  # fmt: skip
    discrete = np.exp(-(k**2) / (2 * (v + smoothing)))
    expected = discrete[55:66] / discrete.sum()
    off = np.abs(mixed / expected - 1).max()
    share = v * smoothing / (v + smoothing)
    assert off <= 4 * math.exp(-2 * math.pi**2 * share) + 1e-9


def test_what_no_sum_can_be_is_cut_off() -> None:
    units = units_of("patient", PATIENTS)
    for _ in range(20):
        found = noisy_sums(IMAGES, LABELS, units, outputs=2, noise_multiplier=5.0)
        values = [*found.levels, *found.squares, *found.classes]
        assert all(0 <= value <= 2 for value in values)
        assert found.units == 2


@pytest.mark.parametrize("noise", [0.0, -1.0, 11.0, math.nan])
def test_no_noise_is_no_statistics(noise: float) -> None:
    with pytest.raises(ConfigError, match="noise_multiplier"):
        noisy_sums(IMAGES, LABELS, units_of("patient", PATIENTS), outputs=2,
                   noise_multiplier=noise)  # fmt: skip
