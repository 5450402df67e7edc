"""`make check` composes every choice: what it says of a sound and of a broken one."""

from __future__ import annotations

from pathlib import Path

import pytest

from primia_flwr.cli import verify_conf


def test_what_is_sound_is_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [one for one in verify_conf._choices() if one[0].parent.name in ("sweep", "model")][:3]
    monkeypatch.setattr(verify_conf, "_choices", lambda: iter(few))
    assert verify_conf.main() == 0
    assert "3 choices checked, 0 problems" in capsys.readouterr().out


def test_a_broken_choice_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [(Path("conf/model/new.yaml"), ["model.name=resnet19"])]
    monkeypatch.setattr(verify_conf, "_choices", lambda: iter(broken))
    assert verify_conf.main() == 1
    said = capsys.readouterr()
    assert said.err.startswith("conf/model/new.yaml: model.name=resnet19")
    assert "1 choices checked, 1 problems" in said.out
