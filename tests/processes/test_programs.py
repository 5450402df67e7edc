"""Programs of Flower are found beside this Python, also where its path has a space."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

from primia_flwr.errors import FederationError
from primia_flwr.processes.programs import flower_program


def test_the_program_beside_this_python_is_found() -> None:
    assert Path(flower_program("flower-superlink")).is_file()


def test_a_program_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: "/nowhere/bin")
    with pytest.raises(FederationError, match="install flwr"):
        flower_program("flower-superlink")


_SAY_WHERE = """
import subprocess, sys
from pathlib import Path
from primia_flwr.processes.programs import flower_program
program = Path(flower_program("flower-superlink"))
print(program)
script = "import pathlib, sys, flwr; print(pathlib.Path(flwr.__file__).resolve(), sys.executable)"
subprocess.run([program.parent / "python", "-c", script], check=True)
print(subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout)
"""


def test_an_environment_with_a_space_has_a_stand_in_that_leaves_with_its_user(
    environment_with_a_space: Path,
) -> None:
    done = subprocess.run(
        [environment_with_a_space, "-c", _SAY_WHERE], check=True, capture_output=True, text=True
    )
    program, places, version = done.stdout.strip().splitlines()[:3]
    assert " " in str(environment_with_a_space)
    assert " " not in program
    assert places.count(" ") == 1, "one path, one space, one path"
    assert version.startswith("Flower version")
    assert not Path(program).exists()
