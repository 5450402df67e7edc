"""Checkpoints beside the run: in order, whole, as they were when they were handed over."""

import threading
from pathlib import Path

import numpy as np
import pytest

from primia_flwr.errors import CheckpointError, FederationError
from primia_flwr.runs import checkpoint_writer
from primia_flwr.runs.checkpoint import Checkpoint, load_latest, save_checkpoint
from primia_flwr.runs.checkpoint_writer import CheckpointWriter

MODEL = {"w": np.zeros(2, np.float32)}


def make(number: int, **state: object) -> Checkpoint:
    arrays = {"global": {"w": np.full(2, number, np.float32)}}
    return Checkpoint("h", number, arrays, state)


def latest(folder: Path) -> Checkpoint:
    found = load_latest(folder, config_hash="h", model=MODEL)
    assert found is not None
    return found


def test_the_run_goes_on_while_a_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()

    def slow(folder: Path, checkpoint: Checkpoint) -> Path:
        assert may_write.wait(10)
        return save_checkpoint(folder, checkpoint)

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", slow)
    rows = [1]
    with CheckpointWriter(tmp_path) as writer:
        writer.save(make(1, rows=rows))
        assert list(tmp_path.iterdir()) == []
        rows.append(2)  # what the next round does
        may_write.set()
    assert latest(tmp_path).state == {"rows": [1]}


def test_they_come_in_order_and_the_last_is_whole_at_the_end(tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path) as writer:
        for number in (1, 2, 3):
            writer.save(make(number))
    assert latest(tmp_path).round == 3
    assert latest(tmp_path).arrays["global"]["w"].tolist() == [3, 3]


def test_one_that_cannot_be_written_ends_the_run_at_the_next(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, no folder")
    with CheckpointWriter(tmp_path / "taken") as writer:
        writer.save(make(1))
        with pytest.raises(CheckpointError, match="the checkpoint of round 1"):
            writer.save(make(2))


def test_the_last_one_that_cannot_be_written_is_said_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, no folder")
    with (
        pytest.raises(CheckpointError, match="the checkpoint of round 1"),
        CheckpointWriter(tmp_path / "taken") as writer,
    ):
        writer.save(make(1))


def test_a_run_that_fails_keeps_its_error_and_its_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_text("a file, no folder")

    def fail(folder: Path) -> None:
        with CheckpointWriter(folder) as writer:
            writer.save(make(1))
            raise FederationError("too few sites")

    for folder in (tmp_path / "new", tmp_path / "taken"):
        with pytest.raises(FederationError, match="too few"):
            fail(folder)
    assert latest(tmp_path / "new").round == 1
    assert "the checkpoint of round 1" in caplog.text
