"""Threads that wait asleep: in every Flower process, unless the user has said how they wait."""

import subprocess
import sys
from pathlib import Path

import pytest

from primia_flwr.processes.children import flower_environment
from primia_flwr.processes.waiting import waiting_settings

# What OpenMP took from the environment, as it prints it where it is asked to.
_ASKED = "import torch; torch.ones(2)"
_SAID = "OMP_DISPLAY_ENV"


def test_every_flower_process_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    settings = waiting_settings()
    assert settings["OMP_WAIT_POLICY"] == "passive"
    assert flower_environment(tmp_path).items() >= settings.items()


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_the_users_own_word_stands_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for known in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(known, raising=False)
    monkeypatch.setenv(name, "7")
    assert waiting_settings() == {}
    assert flower_environment(tmp_path)[name] == "7"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="GNU's OpenMP")
def test_pytorchs_openmp_takes_the_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    for known in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(known, raising=False)
    settings = waiting_settings()
    done = subprocess.run(
        [sys.executable, "-I", "-c", _ASKED],
        env={**settings, _SAID: "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"GOMP_SPINCOUNT = '{settings['GOMP_SPINCOUNT']}'" in done.stderr
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
