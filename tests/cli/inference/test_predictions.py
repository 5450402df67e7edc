from __future__ import annotations

import csv
import errno
import json
import os
from pathlib import Path

import pytest

from primia_flwr.cli.inference.predictions import output_folder, write_tables
from primia_flwr.errors import ConfigError, DataError

ROWS = [{"file": "a.png", "prediction": "normal", "p_normal": 1.0, "scores": [0.5]}]


def test_both_tables_are_written_for_their_owner_only(tmp_path: Path) -> None:
    write_tables(tmp_path / "out", ROWS, {"images": 1})
    found = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert found == [{"file": "a.png", "prediction": "normal", "p_normal": "1.0"}]
    values = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert values == {"images": 1, "predictions": ROWS}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o600}
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("at", [0, 1])
def test_a_full_disk_leaves_the_tables_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    write_tables(tmp_path, ROWS, {"images": 1})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    calls: list[int] = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > at:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left on device"):
        write_tables(tmp_path, [*ROWS, *ROWS], {"images": 2})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_older_result_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text("")
    with pytest.raises(ConfigError, match=r"predictions of another call.*nothing is overwritten$"):
        output_folder(str(tmp_path))
    with pytest.raises(ConfigError, match=rf"resume={tmp_path} goes on with it$"):
        output_folder(str(tmp_path), resumable=True)
    with pytest.raises(ConfigError, match="cannot be written"):
        output_folder(str(tmp_path / "predictions.csv" / "below"))
    assert output_folder(str(tmp_path / "new")) == tmp_path / "new"
