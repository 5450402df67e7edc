"""Help: short first, whole on request; what a key means is the comment in `conf/`."""

from __future__ import annotations

from pathlib import Path

import pytest

from primia_flwr.cli.help import choices_of, keys_of
from primia_flwr.cli.main import run
from primia_flwr.cli.train.train import COMMAND
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.keys import kinds_of


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "240")


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert run(list(words)) == 0
    return capsys.readouterr().out.splitlines()


def test_the_first_help_fits_a_screen_and_names_the_second(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(capsys, "train", "--help")
    assert len(lines) < 55
    assert [line for line in lines if line.endswith(" more: primia train --help=all")]
    (rounds,) = [line for line in lines if line.startswith("  federation.rounds=8 ")]
    assert rounds.split(maxsplit=1)[1].strip() == "of training at the sites and averaging"
    (model,) = [line for line in lines if line.startswith("  model=resnet18 ")]
    assert model.split(maxsplit=1)[1].startswith("one of densenet121, efficientnet_lite0, ")


def test_the_whole_help_has_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(shown(capsys, "train", "--help=all"))
    missing = [key for key in kinds_of(Experiment) if f"{key}=" not in text]
    sections = {key.rpartition(".")[0] for key in kinds_of(Experiment)}
    assert set(missing) <= sections
    assert "--help=all" not in text
    line = next(line for line in text.splitlines() if line.startswith("  training.schedule="))
    assert "log_linear (a straight line in log space)" in line  # of the comment above the key


@pytest.mark.parametrize("words", [("data", "check"), ("evaluate",), ("site", "approve")])
def test_few_keys_are_shown_at_once(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(capsys, *words, "--help")
    assert lines == shown(capsys, *words, "--help=all")


def test_what_a_short_help_shows_exists() -> None:
    assert set(COMMAND.most_used) <= set(keys_of(COMMAND))


def test_a_federation_is_a_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert choices_of("deployment") == ["simulation"]
    folder = tmp_path / "federations" / "conf" / "deployment"
    folder.mkdir(parents=True)
    (folder / "clinics.yaml").touch()
    assert choices_of("deployment") == ["clinics", "simulation"]
