from __future__ import annotations

import json
from pathlib import Path

import pytest

from primia_flwr.cli.main import run
from primia_flwr.cli.train.many_words import checked_words, resumed_words
from primia_flwr.config.load import compose
from primia_flwr.errors import ConfigError


def test_a_search_goes_on_with_its_own_words_and_new_ones_count(tmp_path: Path) -> None:
    known = ["sweep=demo", "sweep.trials=5", "seed=2"]
    (tmp_path / "command.json").write_text(json.dumps({"overrides": known}))

    assert resumed_words([f"sweep.resume={tmp_path}", "sweep.trials=9"]) == [
        "sweep=demo",
        "sweep.trials=9",
        "seed=2",
        f"sweep.resume='{tmp_path}'",
        f"hydra.sweep.dir='{tmp_path}'",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-m", "sweep.resume=nowhere"], "expected the folder of a search"),
        (["-m", "sweep.trials=3"], "expected sweep=<choice> as well"),
        (["-m", "sweep=demo", "seed=1,2"], "lists several values in a search"),
        (["-m", "sweep=demo", "sweep.trials=0"], "sweep.trials=0"),
        (["-m", "sweep=default"], "space is empty"),
        (["-m", "sweep=default", "sweep.space_file=none.yaml"], "cannot be read"),
        (["sweep=demo"], "expected primia train -m sweep=demo"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    assert run(["train", *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_an_experiment_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "experiment" / "mine.yaml"
    path.parent.mkdir()
    path.write_text("# @package _global_\nname: mine\ntraining:\n  batch_size: 24\n")

    cfg = compose("config", [f"experiment={path}"])

    assert (cfg.name, cfg.training.batch_size) == ("mine", 24)


@pytest.mark.parametrize(
    "name", ["experiment/none.yaml", "elsewhere/mine.yaml", "experiment/demo.yaml"]
)
def test_another_file_is_refused(name: str, tmp_path: Path) -> None:
    for folder, file in (("elsewhere", "mine.yaml"), ("experiment", "demo.yaml")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text("{}\n")

    with pytest.raises(ConfigError, match="expected"):
        compose("config", [f"experiment={tmp_path / name}"])


def test_a_search_does_not_train_over_runs(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"hydra\.sweep\.dir=.* holds a run; .*resume="):
        checked_words(["sweep=demo", f"hydra.sweep.dir={tmp_path}"], search=True)
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


@pytest.mark.parametrize("content", ["[]", "{", '{"overrides": "sweep=demo"}'])
def test_a_folder_whose_words_are_garbled_is_no_search(content: str, tmp_path: Path) -> None:
    (tmp_path / "command.json").write_text(content)
    with pytest.raises(ConfigError, match="expected the folder of a search"):
        resumed_words([f"sweep.resume={tmp_path}"])
