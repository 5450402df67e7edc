"""The dry run of a sweep says what its jobs would do, and leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from primia_flwr.cli.main import run

SMALL = (
    "experiment=demo", "data.image_size=32", "data.synthetic.patients=30", "federation.rounds=1",
    "baselines=[]", "report.saliency=0", "model=simpleconv", "training.threads=1",
    "tracking=disabled", "dry_run=true", "quiet=true",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plans(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[dict[str, object]]]:
    code = run(["train", "-m", *SMALL, *words])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]


def test_a_dry_run_of_a_sweep_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = plans(capsys, "training.learning_rate=1e-3,-1")
    assert code == 1  # the second rate is none
    assert [("config_hash" in plan, plan.get("ok", True)) for plan in found] == [
        (True, True), (False, False),
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == [".primia"]


def test_a_folder_of_the_users_stays_and_is_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own").mkdir()
    assert plans(capsys, "seed=1", "hydra.sweep.dir=own")[0] == 0
    assert list((tmp_path / "own").iterdir()) == []
