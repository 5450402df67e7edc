"""Programs of Flower are found beside this Python, or refused with one sentence."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from primia_flwr.errors import FederationError
from primia_flwr.processes import flower_program


def test_the_program_beside_this_python_is_found() -> None:
    assert Path(flower_program("flower-superlink")).is_file()


@pytest.mark.parametrize(
    ("folder", "fragment"),
    [("/a b/bin", "has a space in its path"), ("/nowhere/bin", "install flwr")],
)
def test_unusable_programs_are_refused(
    folder: str, fragment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: folder)
    with pytest.raises(FederationError, match=fragment):
        flower_program("flower-superlink")
