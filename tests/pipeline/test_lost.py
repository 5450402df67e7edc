"""A simulation whose processes die goes on from its checkpoint; want of memory is explained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from primia_flwr.config.experiment.deployment import DeploymentConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import FederationError
from primia_flwr.messages.refusals import KILLED
from primia_flwr.pipeline import lost
from primia_flwr.pipeline.lost import launch_again

HERE = Experiment()
REAL = DeploymentConfig(
    kind="deployment", superlink="a:1", root_certificates="ca.crt", roster="roster.yaml"
)
DONE = {"rounds": 8}


def run(
    ends: list[str], monkeypatch: pytest.MonkeyPatch, experiment: Experiment = HERE
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Run with launches that end in errors, or well at ""; return result, resumes and sayings."""
    resumes, said = list[str](), list[str]()

    def launch(experiment: Experiment, *_: object) -> dict[str, Any]:
        resumes.append(experiment.resume)
        if words := ends[len(resumes) - 1]:
            raise FederationError(words)
        return DONE

    monkeypatch.setattr(lost, "launch", launch)
    return launch_again(experiment, Path("out"), lambda: None, said.append), resumes, said


@pytest.mark.parametrize("words", [f"round 2: ({KILLED})", "it ended as failed without a result"])
def test_it_is_started_anew_from_its_checkpoint(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, resumes, said = run([words, ""], monkeypatch)
    assert result == DONE
    assert resumes == ["", "out"]
    assert len(said) == 1


def test_after_three_starts_the_user_hears_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FederationError) as caught:
        run([KILLED] * 3, monkeypatch)
    for words in ("training.batch_size=32", "data.image_size=64", "model.name=resnet18"):
        assert words in str(caught.value)


def test_memory_that_runs_out_in_training_is_explained_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(FederationError, match=r"out of memory .*training\.batch_size=32"):
        run(["round 1: site-1: out of memory (MemoryError)", ""], monkeypatch)


@pytest.mark.parametrize("words", ["three sites are late", KILLED])
def test_real_sites_and_other_errors_end_the_run(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = replace(HERE, deployment=REAL)
    with pytest.raises(FederationError) as caught:
        run([words, ""], monkeypatch, real)
    assert str(caught.value) == words
