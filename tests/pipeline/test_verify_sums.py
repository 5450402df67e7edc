"""The audit of a simulation's secure sums."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from primia_flwr.pipeline.verify_sums import largest_error, write_update


def _sites(folder: Path, updates: dict[str, tuple[list[float], float]]) -> None:
    for name, (update, weight) in updates.items():
        (folder / "sites" / name).mkdir(parents=True)
        write_update(folder / "sites" / name, np.array(update, np.float32), weight)


def test_the_largest_error_is_that_of_the_worst_entry(tmp_path: Path) -> None:
    _sites(tmp_path, {"a": ([1.0, 0.0, 4.0], 1), "b": ([3.0, 0.0, 8.0], 3)})
    # weighted means: 2.5, 0, 7; the mean that was learned is off by 0, 1/8 and 1/4
    mean = np.array([2.5, 0.125, 7.25], np.float32)
    assert largest_error(tmp_path, ["a", "b"], mean) == pytest.approx(0.25, abs=1e-6)
    assert not list(tmp_path.rglob("*.npz"))


def test_only_survivors_count(tmp_path: Path) -> None:
    _sites(tmp_path, {"a": ([1.0], 1), "b": ([3.0], 1), "gone": ([99.0], 50)})
    assert largest_error(tmp_path, ["a", "b"], np.array([2.0], np.float32)) <= 0


def test_the_rounding_of_a_float32_is_no_error(tmp_path: Path) -> None:
    _sites(tmp_path, {"a": ([1.0], 1), "b": ([0.0], 2)})
    third = np.array([1 / 3], np.float32)  # not 1/3, but the float32 nearest to it
    assert float(third[0]) != 1 / 3
    assert largest_error(tmp_path, ["a", "b"], third) <= 0
