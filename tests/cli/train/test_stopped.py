"""What is said of a run that its user has stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from primia_flwr.cli.train.train import _stopped


@pytest.mark.parametrize(("saved", "round_number"), [(1, 1), (3, 3), (4, 3)])
def test_the_last_verdict_is_no_round(tmp_path: Path, saved: int, round_number: int) -> None:
    """A run of three rounds has a fourth checkpoint, of the last model's verdict."""
    for number in range(1, saved + 1):
        (tmp_path / "checkpoints" / f"checkpoint-{number:06d}").mkdir(parents=True)
    assert _stopped(tmp_path, 3).startswith(f"stopped after round {round_number}; no site goes on;")


def test_before_the_first_round_nothing_is_kept(tmp_path: Path) -> None:
    assert "before the first round" in _stopped(tmp_path, 3)
