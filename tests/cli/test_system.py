"""What the system refuses is one sentence: closed streams, a full disk, a folder that is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from primia_flwr.cli.main import run

PRIMIA = f"{sys.executable} -c 'from primia_flwr.cli.main import main; main()'"


def in_shell(line: str, cwd: Path) -> tuple[int, str]:
    """Run a line of bash; return its exit code and what it says to standard error."""
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=cwd)
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stderr


def test_a_full_disk_behind_the_output_is_one_sentence(tmp_path: Path) -> None:
    code, said = in_shell(f"{PRIMIA} --help > /dev/full", tmp_path)
    assert code == 2
    assert said.startswith(
        "error: a file or an output cannot be used (No space left on device); ex"
    )


def test_who_reads_no_further_is_told_nothing(tmp_path: Path) -> None:
    line = f"set -o pipefail; (sleep 0.5; {PRIMIA} --version) | exec 0<&-"
    assert in_shell(line, tmp_path) == (141, "")


def test_closed_streams_are_taken_for_no_file(tmp_path: Path) -> None:
    words = "data partition data=synthetic data.synthetic.patients=40 output=p"
    assert in_shell(f"{PRIMIA} {words} >&- 2>&- <&-", tmp_path) == (0, "")
    tables = sorted((tmp_path / "p").iterdir())
    assert [path.name for path in tables] == ["site-1.csv", "site-2.csv", "site-3.csv", "test.csv"]
    assert {path.read_text().partition("\n")[0].strip() for path in tables} == {
        "path,label,patient,site,split"
    }


def test_a_folder_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    code, said = in_shell(f"cd gone; rmdir ../gone; {PRIMIA} --help", tmp_path)
    assert code == 2
    assert said.startswith("error: the current folder cannot be used (No such file or directory)")


def test_tables_of_another_deal_are_not_mixed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "site-5.csv").write_text("path,label\n")
    assert run(["data", "partition", "data=synthetic", "output=p"]) == 2
    assert "output=p: holds site-5.csv; expected a new folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["site-5.csv"]
