"""A real study with an objective that can be worked out by hand in place of a federated run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse
from primia_flwr.config.search.space import parse_space
from primia_flwr.config.search.sweep import SweepConfig
from primia_flwr.errors import ConfigError, FederationError
from primia_flwr.search.search import Search
from primia_flwr.search.sweeper import as_overrides
from primia_flwr.search.trial import Outcome

SPACE = {"training.batch_size": {"low": 8, "high": 64, "step": 8}}


def search(folder: Path, words: list[str] | None = None, **changes: Any) -> Search:
    space = parse_space(changes.pop("space", SPACE))
    cfg = SweepConfig(**{"trials": 6, "sampler": "random", **changes})
    return Search(cfg, space, parse(Experiment, compose("config", words or [])), folder, [])


def half(trial: optuna.Trial, values: dict[str, Any]) -> Outcome:
    """Score batch_size / 128: 0.5 for the largest."""
    return Outcome("complete", values["training.batch_size"] / 128, 2)


def test_the_best_is_the_largest_and_the_default_comes_first(tmp_path: Path) -> None:
    line = search(tmp_path).run(half)

    found = json.loads((tmp_path / "sweep.json").read_text())
    scores = [trial["val_mcc"] for trial in found["trials"]]
    assert scores[0] == line["default_val_mcc"] == 32 / 128
    assert line["best_val_mcc"] == max(scores) == line["best"]["training.batch_size"] / 128
    assert (line["trials"], line["complete"], line["ok"]) == (6, 6, True)
    page = (tmp_path / "sweep.html").read_text()
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert "needs 10 complete trials" in page


def test_importance_is_shown_from_ten_trials_on(tmp_path: Path) -> None:
    search(tmp_path, trials=10).run(half)

    assert 'aria-label="Bar chart of the importance' in (tmp_path / "sweep.html").read_text()


def test_the_best_point_is_an_experiment(tmp_path: Path) -> None:
    line = search(tmp_path, ["aggregation=plain", "federation.rounds=3"]).run(half)

    best = parse(Experiment, compose("config", [f"experiment={line['experiment']}"]))
    assert best.training.batch_size == line["best"]["training.batch_size"]
    assert best.federation.rounds == 3
    assert not best.aggregation.secure


def test_a_search_goes_on_with_what_it_has(tmp_path: Path) -> None:
    search(tmp_path, trials=3).run(half)
    asked = []

    def count(trial: optuna.Trial, values: dict[str, Any]) -> Outcome:
        asked.append(trial.number)
        return half(trial, values)

    line = search(tmp_path, trials=5, resume=str(tmp_path)).run(count)

    assert asked == [3, 4]
    assert line["trials"] == 5


def test_an_interrupted_trial_is_asked_again(tmp_path: Path) -> None:
    points = []

    def stopped(trial: optuna.Trial, values: dict[str, Any]) -> Outcome:
        points.append(values)
        if len(points) == 2:
            raise KeyboardInterrupt
        return half(trial, values)

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path).run(stopped)
    line = search(tmp_path).run(stopped)

    assert points[2] == points[1]
    assert line["trials"] == 6


def test_bad_points_are_named_and_the_search_goes_on(tmp_path: Path) -> None:
    outcomes = [
        Outcome("diverged", None, 1, "site-1: the training diverged"),
        Outcome("pruned", None, 2, "validation MCC 0.1 of round 2"),
        Outcome("invalid", None, 0, "training.min_learning_rate=1"),
        Outcome("failed", None, 0, "the disk is full"),
    ]

    def run(trial: optuna.Trial, values: dict[str, Any]) -> Outcome:
        return outcomes[trial.number] if trial.number < 4 else half(trial, values)

    line = search(tmp_path, trials=5).run(run)

    assert [line[kind] for kind in ("diverged", "pruned", "invalid", "failed", "complete")] == [
        1
    ] * 5
    assert "the disk is full" in (tmp_path / "sweep.html").read_text()
    assert line["best_trial"] == 4


def test_three_failures_in_a_row_stop_the_search(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match=r"3 trials in a row failed.*no data"):
        search(tmp_path).run(lambda *_: Outcome("failed", None, 0, "no data"))
    assert len(json.loads((tmp_path / "sweep.json").read_text())["trials"]) == 3


def test_without_a_complete_trial_there_is_no_best(tmp_path: Path) -> None:
    line = search(tmp_path, trials=2).run(lambda *_: Outcome("diverged", None, 1, "NaN"))

    assert not line["ok"]
    assert line["best"] is None
    assert not (tmp_path / "experiment").exists()
    assert "No trial is complete" in (tmp_path / "sweep.html").read_text()


@pytest.mark.parametrize(
    ("words", "changes", "said"),
    [
        ([], {"space": {"training.batch_size": {"low": 8, "high": 32}}}, "another space"),
        (["training.warmup=0.1"], {}, r"another experiment \(training.warmup was 0.3, now 0.1\)"),
    ],
)
def test_a_study_of_another_question_is_refused(
    tmp_path: Path, words: list[str], changes: dict[str, Any], said: str
) -> None:
    search(tmp_path, trials=1).run(half)

    with pytest.raises(ConfigError, match=said):
        search(tmp_path, words, **changes).run(half)


def test_a_file_that_is_no_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("no database at all, but long enough to be read as one")

    with pytest.raises(ConfigError, match="cannot be opened as a study"):
        search(tmp_path).run(half)


@pytest.mark.parametrize(
    ("words", "changes", "said"),
    [
        (["privacy=dp_sgd", "model.norm=group"], {}, "release of its own"),
        (["training.early_stopping.federation.monitor=loss"], {}, "expected mcc"),
        ([], {"resume": "nowhere"}, "expected the folder of a search"),
    ],
)
def test_a_question_that_a_search_must_not_answer(
    tmp_path: Path, words: list[str], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        search(tmp_path / "new", words, **changes).run(half)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (
            {"training.learning_rate": {"low": -1.0, "high": 1.0}},
            "training.learning_rate=-1.0; ",
        ),
        ({"training.learning_rate": {"choices": [0.1, 0.0]}}, "training.learning_rate=0.0; "),
        (
            {"training.optimizer": {"choices": ["sgd", "adamm"]}},
            "training.optimizer=adamm; ",
        ),
        ({"training.label_smoothing": {"low": 0.0, "high": 2.0}}, "training.label_smoothing=2.0; "),
    ],
)
def test_a_value_that_no_run_can_have_is_refused_before_the_first_trial(
    tmp_path: Path, space: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=rf"sweep.space has a value that no run can have: {said}"):
        search(tmp_path / "new", space=space).run(half)
    assert not (tmp_path / "new").exists()


def test_values_that_fit_with_others_of_the_space_are_no_reason_to_refuse(tmp_path: Path) -> None:
    # A smallest rate of 0.01 is above the experiment's rate of 0.001, and below some of the space.
    space = {
        "training.min_learning_rate": {"choices": [0.0001, 0.01]},
        "training.learning_rate": {"choices": [0.001, 0.1]},
    }
    asked = []

    def run(trial: optuna.Trial, values: dict[str, Any]) -> Outcome:
        asked.append(values)
        fits = values["training.min_learning_rate"] <= values["training.learning_rate"]
        return Outcome("complete", 0.5, 2) if fits else Outcome("invalid", None, 0, "too high")

    line = search(tmp_path, space=space, trials=4).run(run)
    assert len(asked) == 4
    assert line["complete"] + line["invalid"] == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trials": 0}, "sweep.trials=0"),
        ({"sampler": "tpa"}, "did you mean tpe"),
        ({"pruner": "medain"}, "did you mean median"),
    ],
)
def test_settings_of_a_search_are_checked(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SweepConfig(**changes)


def test_values_come_back_from_hydra_unchanged() -> None:
    values = {
        "training.learning_rate": 1e-05,
        "training.betas": [0.9, 0.999],
        "training.class_weights": "none",
        "training.compile": True,
        "model.weights": "it's \\ a \\'file\\.pth",
    }
    cfg = compose("config", as_overrides(values))

    assert cfg.training.learning_rate == 1e-05
    assert cfg.training.betas == [0.9, 0.999]
    assert cfg.training.class_weights == "none"
    assert cfg.training.compile is True
    assert cfg.model.weights == values["model.weights"]


STEP = {"strategy.options.server_learning_rate": {"low": 0.01, "high": 1.0}}


def score_step(trial: optuna.Trial, values: dict[str, Any]) -> Outcome:
    return Outcome("complete", values["strategy.options.server_learning_rate"] / 2, 2)


@pytest.mark.parametrize("words", [["strategy=fedadam"], ["strategy.name=fedadam"]])
def test_the_options_of_a_rule_are_searched(tmp_path: Path, words: list[str]) -> None:
    """Whether or not the YAML that was chosen names them; the default trial has the defaults."""
    line = search(tmp_path, words, space=STEP).run(score_step)

    found = json.loads((tmp_path / "sweep.json").read_text())
    assert found["trials"][0]["values"] == {"strategy.options.server_learning_rate": 0.1}
    best = parse(Experiment, compose("config", [f"experiment={line['experiment']}"]))
    assert best.strategy.name == "fedadam"
    assert best.strategy.options["server_learning_rate"] == 2 * line["best_val_mcc"]
    assert best.strategy.options["beta_2"] == 0.99
    again = compose("config", [*words, *as_overrides(line["best"])])
    assert parse(Experiment, again).strategy == best.strategy


@pytest.mark.parametrize(
    ("words", "space", "said"),
    [
        ([], STEP, "server_learning_rate with strategy.name=fedavg; expected no options"),
        (
            ["strategy=krum", "aggregation=plain"],
            STEP,
            "server_learning_rate with strategy.name=krum; expected num_malicious; choose",
        ),
        (
            ["strategy=fedadam"],
            {"strategy.name": {"choices": ["fedadam", "fedyogi", "fedavg"]}},
            "strategy.options.server_learning_rate with strategy.name=fedavg",
        ),
    ],
)
def test_options_that_a_rule_does_not_have_are_refused_before_anything_runs(
    tmp_path: Path, words: list[str], space: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        search(tmp_path / "new", words, space=space).run(score_step)
    assert said in str(caught.value)
    assert not (tmp_path / "new").exists()
