from pathlib import Path

import pytest

from primia_flwr.processes import room


def test_a_machine_has_memory() -> None:
    assert room.available_bytes() > 0


def test_the_limit_of_a_control_group_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_CGROUP", tmp_path)
    (tmp_path / "memory.current").write_text("400\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert room.available_bytes() == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert room.available_bytes() > 600
