from dataclasses import replace
from pathlib import Path

import pytest

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose_experiment
from primia_flwr.errors import ConfigError, FederationError
from primia_flwr.pipeline.earlier_sums import check_earlier_sums
from primia_flwr.runs.secure_sums import SumRow
from primia_flwr.runs.sum_log import SumLog

MODEL, OTHER = "ab" * 32, "cd" * 32
THREE, FOUR = ["munich", "paris", "london"], ["munich", "paris", "london", "rome"]


def run_of(folder: Path, sites: list[str], *overrides: str, resume: str = "") -> Experiment:
    found = compose_experiment(["seed=4", *overrides])
    deployment = replace(
        found.deployment,
        kind="deployment",
        superlink="127.0.0.1:9",
        root_certificates="ca.crt",
        roster=str(folder / "roster.yaml"),
    )
    federation = replace(found.federation, sites=sites)
    return replace(found, deployment=deployment, federation=federation, resume=resume)


def summed(run_dir: Path, sites: list[str], *, round: int = 1, kind: str = "train") -> None:
    run_dir.mkdir(exist_ok=True)
    SumLog(run_dir).add(SumRow(round, kind, 1, sites, members=sites, survivors=sites))


def test_the_same_first_model_over_other_sites_is_refused_with_another_seed(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    check_earlier_sums(run_of(tmp_path, THREE), one, MODEL)
    check_earlier_sums(run_of(tmp_path, FOUR), two, MODEL)  # of the first nothing is known yet
    summed(one, THREE)
    with pytest.raises(ConfigError) as found:
        check_earlier_sums(run_of(tmp_path, FOUR), tmp_path / "three", MODEL)
    assert str(found.value) == (
        f"seed=4 begins with the model of {one}, of which the sum over london, munich, paris is "
        "known; the sites give none over london, munich, paris, rome, because the difference shows "
        "single sites; start with another seed, e.g. seed=5"
    )
    assert "resume" not in str(found.value)


def test_what_the_sites_do_not_refuse_passes(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    check_earlier_sums(run_of(tmp_path, THREE), one, MODEL)
    summed(one, THREE)
    summed(one, FOUR, round=2)  # of another model
    summed(one, FOUR, kind="statistics")
    check_earlier_sums(run_of(tmp_path, THREE[::-1]), two, MODEL)
    check_earlier_sums(run_of(tmp_path, FOUR), two, OTHER)
    check_earlier_sums(run_of(tmp_path, FOUR, resume=str(two)), two, MODEL)
    check_earlier_sums(run_of(tmp_path, FOUR, "aggregation=plain"), two, MODEL)
    free = "aggregation.allow_other_survivors=true"
    check_earlier_sums(run_of(tmp_path, FOUR, free), two, MODEL)
    check_earlier_sums(
        replace(run_of(tmp_path, FOUR), deployment=Experiment().deployment), two, MODEL
    )


def test_a_run_that_is_gone_refuses_nothing_and_a_garbled_memory_is_one_sentence(
    tmp_path: Path,
) -> None:
    check_earlier_sums(run_of(tmp_path, THREE), tmp_path / "gone", MODEL)
    check_earlier_sums(run_of(tmp_path, FOUR), tmp_path / "two", MODEL)
    for text in ("{", "[3]", '[["a"]]', '[["a", 3]]', "[null]"):
        (tmp_path / "first-models.json").write_text(text)
        with pytest.raises(FederationError, match="use seeds that are new"):
            check_earlier_sums(run_of(tmp_path, THREE), tmp_path / "x", MODEL)
