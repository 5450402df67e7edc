from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from primia_flwr.config.rows import TASKS
from primia_flwr.config.search.space import parse_space
from primia_flwr.config.search.sweep import SweepConfig
from primia_flwr.errors import ConfigError, FederationError
from primia_flwr.flower.launcher import RunStopped
from primia_flwr.runs.history import append_event
from primia_flwr.search.study import best_trial, open_study
from primia_flwr.search.trial import Follower, Outcome, outcome_of
from primia_flwr.training.round import DIVERGED

AIM = TASKS["classification"].aim
SPACE = parse_space({"training.batch_size": {"low": 8, "high": 64, "step": 8}})


class Silent:
    def update(self) -> None: ...

    def say(self, text: str) -> None: ...

    def step(self, name: str, done: float, total: float, note: str) -> None: ...


def study_with(folder: Path, pruner: str, scores: list[float]) -> optuna.Study:
    """Return a study in which trials of 4 rounds had one score each in all rounds."""
    cfg = SweepConfig(pruner=pruner, prune_after_trials=2, prune_after_rounds=1)
    study = open_study(folder, cfg, SPACE, {}, AIM)
    for score in scores:
        trial = study.ask(SPACE.distributions())
        for step in range(1, 5):
            trial.report(score, step)
            trial.should_prune()  # notes the rungs of successive halving
        trial.set_user_attr("outcome", "complete")
        study.tell(trial, score)
    return study


def follow(study: optuna.Study, folder: Path, rounds: int = 4) -> Follower:
    return Follower(Silent(), study.ask(SPACE.distributions()), folder, rounds, AIM)


def finish_round(folder: Path, number: int, mcc: float | None, loss: float = 1.0) -> None:
    # Round r's answers tell how good the model of round r-1 is.
    append_event(
        folder, "round_finished", round=number, val_round=number - 1, val_mcc=mcc, train_loss=loss
    )


def test_the_objective_is_the_highest_validation_mcc(tmp_path: Path) -> None:
    follower = follow(study_with(tmp_path, "none", []), tmp_path)

    def run() -> None:
        for number, mcc in ((1, None), (2, 0.25), (3, 0.75), (4, 0.5)):
            finish_round(tmp_path, number, mcc)
            follower.update()
        append_event(tmp_path, "validated", round=4, val_mcc=0.625)

    assert outcome_of(run, follower) == Outcome("complete", 0.75, 4)
    assert follower.progress.values == {1: 0.25, 2: 0.75, 3: 0.5, 4: 0.625}


def test_of_an_objective_that_is_better_when_lower_the_least_counts(tmp_path: Path) -> None:
    loss = TASKS["classification"].metric("loss")
    study = open_study(tmp_path, SweepConfig(pruner="none"), SPACE, {}, loss)
    for values in ((0.5, 0.25, 0.75), (0.375, 0.5)):
        trial = study.ask(SPACE.distributions())
        follower = Follower(Silent(), trial, tmp_path, 4, loss)
        for number, value in enumerate(values, start=2):
            append_event(
                tmp_path, "round_finished", round=number, val_round=number - 1, val_loss=value
            )
        found = outcome_of(follower.update, follower)
        assert found.value == min(values)
        trial.set_user_attr("outcome", found.kind)
        study.tell(trial, found.value)
    best = best_trial(study)
    assert best is not None
    assert (best.number, best.value) == (0, 0.25)


@pytest.mark.parametrize("pruner", ["median", "asha"])
def test_a_trial_below_the_others_is_pruned_after_its_first_rounds(
    tmp_path: Path, pruner: str
) -> None:
    follower = follow(study_with(tmp_path, pruner, [0.5, 0.6, 0.7]), tmp_path)

    def run() -> None:
        for number, mcc in ((1, None), (2, 0.1), (3, 0.1)):
            finish_round(tmp_path, number, mcc)
            follower.update()

    assert outcome_of(run, follower) == Outcome(
        "pruned", None, 3, "validation MCC 0.100 of round 2"
    )


def test_a_good_trial_is_not_pruned_nor_a_bad_one_in_its_last_round(tmp_path: Path) -> None:
    study = study_with(tmp_path, "median", [0.5, 0.6, 0.7])
    for mcc, rounds in ((0.9, 4), (0.1, 3)):
        folder = tmp_path / str(rounds)
        folder.mkdir()
        follower = follow(study, folder, rounds)
        finish_round(folder, 3, mcc)
        follower.update()


def test_a_loss_that_is_no_number_ends_the_trial(tmp_path: Path) -> None:
    follower = follow(study_with(tmp_path, "none", []), tmp_path)
    finish_round(tmp_path, 1, None, loss=float("nan"))

    with pytest.raises(RunStopped, match="train_loss became nan in round 1") as stop:
        follower.update()
    assert stop.value.facts["status"] == "diverged"


def test_a_site_that_diverges_is_named(tmp_path: Path) -> None:
    follower = follow(study_with(tmp_path, "none", []), tmp_path)
    append_event(
        tmp_path, "site_reply", site="munich", status="failed", reason=f"{DIVERGED}: loss inf"
    )

    assert outcome_of(follower.update, follower) == Outcome(
        "diverged", None, 0, f"munich: {DIVERGED}: loss inf"
    )


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConfigError("min above max"), "invalid"),
        (FederationError("no site"), "failed"),
        (FederationError(f"round 1: munich: {DIVERGED}: inf"), "diverged"),
        (OSError("disk"), "failed"),
    ],
)
def test_an_error_is_the_trials_outcome(tmp_path: Path, error: Exception, kind: str) -> None:
    follower = follow(study_with(tmp_path, "none", []), tmp_path)

    def run() -> None:
        raise error

    found = outcome_of(run, follower)
    assert found.kind == kind
    assert str(error) in found.reason


def test_the_users_stop_goes_through(tmp_path: Path) -> None:
    follower = follow(study_with(tmp_path, "none", []), tmp_path)

    def run() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outcome_of(run, follower)


def test_a_run_without_validation_has_failed(tmp_path: Path) -> None:
    follower = follow(study_with(tmp_path, "none", []), tmp_path)

    assert outcome_of(lambda: None, follower).kind == "failed"


@pytest.mark.parametrize("seen_in_time", [True, False])
def test_an_update_outside_the_agreed_range_is_a_divergence_and_no_failure(
    tmp_path: Path, seen_in_time: bool
) -> None:
    follower = follow(study_with(tmp_path, "none", []), tmp_path)
    reason = "DivergenceError: entry 3 of the update is 35.1; expected at most clip=32"

    def run() -> None:
        append_event(tmp_path, "site_reply", site="munich", status="diverged", reason=reason)
        if seen_in_time:
            follower.update()
        raise FederationError("round 1: 0 good updates in each of 3 attempts")

    assert outcome_of(run, follower) == Outcome("diverged", None, 0, f"munich: {reason}")
