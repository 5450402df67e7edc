"""A run that goes on: with its own configuration, and for more rounds if they are asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from primia_flwr.cli.train.resume import lengthen, longer, resumed
from primia_flwr.cli.train.who_sees import what_matters
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose_experiment, config_hash, to_yaml
from primia_flwr.config.stored import read_config
from primia_flwr.errors import CheckpointError, ConfigError
from primia_flwr.runs.checkpoint import Checkpoint, load_latest, save_checkpoint

MODEL = {"w": np.zeros(2, np.float32)}


def run_of(folder: Path, *words: str) -> Experiment:
    """Leave what a finished run of eight rounds leaves."""
    before = compose_experiment(words)
    folder.mkdir()
    (folder / "config.yaml").write_text(to_yaml(before))
    arrays = {"global": MODEL, "best": MODEL, "strategy": {}}
    done = Checkpoint(config_hash(before), 8, arrays, {"stopped": "all rounds"})
    save_checkpoint(folder / "checkpoints", done)
    return before


def asked(folder: Path, *words: str) -> Experiment:
    return resumed(compose_experiment(longer([f"resume={folder}", *words])))


def test_rounds_beside_resume_are_those_in_all() -> None:
    assert longer(["resume=a", "federation.rounds=8"]) == ["resume=a", "resume_rounds=8"]
    assert longer(["federation.rounds=8", "resume="]) == ["federation.rounds=8", "resume="]


def test_a_finished_run_goes_on_for_more_rounds(tmp_path: Path) -> None:
    before = run_of(tmp_path / "a", "seed=7")
    after = asked(tmp_path / "a", "federation.rounds=12")
    assert (after.federation.rounds, after.seed) == (12, 7)
    lengthen(after)
    lengthen(after)
    assert read_config(tmp_path / "a" / "config.yaml").federation.rounds == 12
    wanted = config_hash(replace(before, federation=after.federation))
    found = load_latest(tmp_path / "a" / "checkpoints", config_hash=wanted, model=MODEL)
    assert found is not None
    assert (found.round, found.state["stopped"]) == (8, "")


@pytest.mark.parametrize(
    ("sites", "facts", "refused"),
    [
        ("[munich,berlin,rome]", "{}", True),
        ("[munich,berlin,rome]", '{"dealt": "by name"}', False),
        ("[munich,berlin,rome]", "[", True),
        ("[berlin,munich,rome]", "{}", False),
        ("[site-1,site-2,site-10]", "{}", False),
    ],
)
def test_a_run_whose_sites_would_get_other_images_is_refused(
    sites: str, facts: str, refused: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    run_of(folder, f"federation.sites={sites}")
    (folder / "run.json").write_text(facts)
    if not refused:
        asked(folder)
        return
    with pytest.raises(CheckpointError, match=r"to munich, berlin, rome|run\.json cannot be"):
        asked(folder)


@pytest.mark.parametrize(
    ("words", "given", "sentence"),
    [
        ((), ("federation.rounds=7",), "at least the 8 rounds"),
        ((), ("federation.rounds=0",), "federation.rounds=0; expected a number of at least 1"),
        (("privacy=dp_sgd",), ("federation.rounds=9",), "noise of a private run is planned"),
        (("search=demo",), ("federation.rounds=9",), "a search has spent its rounds"),
        (
            ("strategy=cyclic", "aggregation.sealed=true", "data.normalisation.kind=fixed"),
            ("federation.rounds=9",),
            "give the last model once",
        ),
        ((), ("seed=2",), "expected no other keys but federation.rounds"),
    ],
)
def test_what_cannot_be_is_refused(
    words: tuple[str, ...], given: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    run_of(tmp_path / "a", *words)
    with pytest.raises(ConfigError, match=sentence):
        asked(tmp_path / "a", *given)


def test_the_plan_says_who_sees_what() -> None:
    secure = what_matters(compose_experiment(["tracking=disabled"]))
    assert secure["rule"] == "fedavg, sites weighted by images, 8 rounds"
    assert secure["the coordinator sees"].startswith("sums over at least 3 sites, no site's own")
    assert secure["privacy"].startswith("none: ")
    assert secure["tracking"] == "disabled: nothing"
    private = what_matters(compose_experiment(["privacy=dp_sgd"]))
    assert private["privacy"] == "dp_sgd, epsilon 8 at delta 1e-05 for each patient"
    plain = what_matters(compose_experiment(["aggregation=plain", "strategy.weighting=equal"]))
    assert plain["the coordinator sees"].startswith("every site's own update")
    assert plain["rule"] == "fedavg, sites weighted by nothing: all alike, 8 rounds"
    later = ["aggregation=asynchronous", "federation.min_sites=3"]
    asynchronous = what_matters(compose_experiment(later))
    assert asynchronous["the coordinator sees"].startswith("every site's own update and valid")
    assert asynchronous["each site sees"].startswith("the global model of every round")
    few = what_matters(compose_experiment([*later, "aggregation.buffer=2"]))
    assert few["each site sees"].startswith("models whose differences may show one other site's")
    fedbn = what_matters(compose_experiment(["model.shared=no_norm"]))
    assert fedbn["each site sees"].endswith(
        "its own images; its own norm layers it sends to nobody"
    )
    part = ["aggregation=plain", "aggregation.share=0.1", "aggregation.share_by=own"]
    own = what_matters(compose_experiment(part))["the coordinator sees"]
    assert own.startswith("0.1 of an update's numbers a round (each site's own largest, which")
