"""`primia train -m resume=<folder>`: which folders and words it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig

from primia_flwr.cli.main import run
from primia_flwr.cli.train.multirun import go_on, run_jobs, words_of
from primia_flwr.config.typed import quoted

EXPECTED = "expected the folder of a sweep (with a multirun.yaml)"


def began(folder: Path, content: object) -> None:
    folder.mkdir()
    (folder / "multirun.yaml").write_text(yaml.safe_dump(content))


def words(*task: object) -> dict[str, object]:
    return {"hydra": {"overrides": {"task": list(task)}}}


def test_the_words_that_began_it_count_for_the_same_folder(tmp_path: Path) -> None:
    began(tmp_path / "a b", words("experiment=demo", "seed=1,2"))
    assert words_of(tmp_path / "a b") == [
        "experiment=demo",
        "seed=1,2",
        f"hydra.sweep.dir={quoted(str(tmp_path / 'a b'))}",
    ]


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {"hydra": 1},
        {"hydra": {"overrides": {"task": "seed=1"}}},
        words("seed=1", 2),
        words("experiment=demo", "sweep=demo"),  # a search
    ],
    ids=range(6),
)
def test_another_folder_is_one_sentence(
    content: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began(tmp_path / "sweep", content)
    before = (tmp_path / "sweep" / "multirun.yaml").read_bytes()
    assert run(["train", "-m", f"resume={tmp_path / 'sweep'}"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert EXPECTED in said
    assert "sweep.resume=<folder>" in said
    assert (tmp_path / "sweep" / "multirun.yaml").read_bytes() == before


def test_no_folder_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["train", "-m", "resume=nowhere"]) == 2
    assert EXPECTED in " ".join(capsys.readouterr().err.split())
    assert run(["train", "-m", "resume=nowhere", "seed=1"]) == 2
    assert "seed=1 with -m resume=nowhere" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_who_stops_a_sweep_is_told_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def job(cfg: DictConfig, folder: Path) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(["seed=1,2", f"hydra.sweep.dir={tmp_path / 'many'}"], job)
    assert f"the sweep goes on with primia train -m resume={tmp_path / 'many'}" in (
        capsys.readouterr().err
    )


def test_a_sweep_that_is_running_is_not_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, said = tmp_path / "many", []

    def job(cfg: DictConfig, _: Path) -> dict[str, Any]:
        before = (folder / "multirun.yaml").read_bytes()
        assert run(["train", "-m", f"resume={folder}"]) == 2
        said.append(" ".join(capsys.readouterr().err.split()))
        assert (folder / "multirun.yaml").read_bytes() == before
        return {"seed": cfg.seed}

    done = run_jobs(["seed=1,2", f"hydra.sweep.dir={folder}"], job)
    assert [one["seed"] for one in done["runs"]] == [1, 2]
    assert len(said) == 2
    assert all("is in use by another primia train -m" in sentence for sentence in said)
    gone_on = go_on(folder, ["seed=3"], lambda cfg, _: {"seed": cfg.seed})
    assert [one["seed"] for one in gone_on["runs"]] == [3]  # free again
