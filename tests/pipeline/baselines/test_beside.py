"""Baselines in processes of their own: the same bits and mistakes, and nothing left behind."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose_experiment, to_yaml
from primia_flwr.errors import (
    CheckpointError,
    ConfigError,
    DivergenceError,
    FederationError,
    PrimiaError,
)
from primia_flwr.pipeline.baselines import beside, compared, handed, process
from primia_flwr.pipeline.baselines.beside import FOLDER, train_beside
from primia_flwr.pipeline.baselines.compared import train_baselines
from primia_flwr.pipeline.baselines.one import Trained, data_of, dealt_sites, model_of, train
from primia_flwr.runs.folder import training_seconds
from tests.e2e.runner import TINY, processes_of

NAMES = ["local-site-1", "local-site-2", "local-site-3", "centralised"]
LANES = [["centralised"], ["local-site-1", "local-site-2", "local-site-3"]]
MADE = Trained({"w": torch.tensor([1.5])}, 2, (0.25,), (0.5,), ("a", "b"))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    cache = tmp_path_factory.mktemp("cache")
    words = [*TINY, f"data.cache_dir={cache}", "federation.rounds=2"]
    return compose_experiment([*words, "baselines=[local,ensemble,centralised]"])


def nobody(*_: object) -> None: ...


def here(experiment: Experiment) -> dict[str, Trained]:
    dealt = dealt_sites(experiment)
    return {n: train(experiment, n, data_of(experiment, dealt, n), nobody) for n in NAMES}


def test_the_same_bits_side_by_side_as_one_after_another(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a run's folder is below it, and named so
    told = dict[str, list[tuple[float, float]]]()

    def step(name: str, done: float, total: float, note: str) -> None:
        told.setdefault(name, []).append((done, total))
        assert note.endswith(" images/s")

    with closing(train_beside(experiment, Path(), NAMES, LANES, step)) as found:
        beside_, alone = dict(found), here(experiment)
    assert list(beside_) == NAMES
    for name, one in alone.items():
        other = beside_[name]
        assert one.state.keys() == other.state.keys()
        assert all(torch.equal(value, other.state[key]) for key, value in one.state.items()), name
        assert replace(one, state={}) == replace(other, state={})
        assert told[name][-1] == (2, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each process wait for ever, in place of training."""
    words = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(beside, "isolated_module", lambda _, *more: [*words, *more])


def test_who_is_interrupted_leaves_no_process(
    experiment: Experiment, tmp_path: Path, idle: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        assert len(processes_of(tmp_path)) == 2
        raise KeyboardInterrupt

    monkeypatch.setattr(handed, "told", lambda *_: (1, 2, ""))
    trained = train_beside(experiment, tmp_path, NAMES, LANES, interrupt)
    with closing(trained), pytest.raises(KeyboardInterrupt):
        next(trained)
    assert processes_of(tmp_path) == []


def hands_over(folder: Path, name: str, *_: object) -> None:
    """Be the process that has trained a baseline."""
    handed.hand_over(folder, name, MADE)


def test_who_takes_one_and_no_more_leaves_no_process_and_the_next_one_takes_it_too(
    experiment: Experiment, tmp_path: Path, idle: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "_wait", hands_over)
    with closing(train_beside(experiment, tmp_path, NAMES, LANES, nobody)) as trained:
        assert next(trained)[0] == NAMES[0]
        assert len(processes_of(tmp_path)) == 2
    assert processes_of(tmp_path) == []
    monkeypatch.setattr(beside, "_wait", nobody)
    resumed = replace(experiment, resume=str(tmp_path), output_dir="")
    with closing(train_beside(resumed, tmp_path, NAMES[:1], [NAMES[:1]], nobody)) as trained:
        assert next(trained)[1].state["w"].tolist() == [1.5]
        assert processes_of(tmp_path) == []  # nothing was left to train


def test_another_experiment_takes_nothing_of_the_first(
    experiment: Experiment, tmp_path: Path, idle: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "_wait", hands_over)
    with closing(train_beside(experiment, tmp_path, NAMES, LANES, nobody)) as trained:
        next(trained)
    monkeypatch.setattr(beside, "_wait", nobody)
    other = replace(experiment, seed=experiment.seed + 1)
    with (
        closing(train_beside(other, tmp_path, NAMES[:1], [NAMES[:1]], nobody)) as trained,
        pytest.raises(CheckpointError),  # it waits for a training; there is nothing to take
    ):
        next(trained)


def test_what_came_of_another_question_is_no_answer(tmp_path: Path) -> None:
    handed.ask(tmp_path / FOLDER, {"threads": 1})
    handed.hand_over(tmp_path / FOLDER, "centralised", MADE)
    handed.ask(tmp_path / FOLDER, {"threads": 1})
    assert handed.is_there(tmp_path / FOLDER, "centralised")
    handed.ask(tmp_path / FOLDER, {"threads": 2})
    assert not handed.is_there(tmp_path / FOLDER, "centralised")


def test_what_is_damaged_is_refused(tmp_path: Path) -> None:
    handed.hand_over(tmp_path, "centralised", MADE)
    assert handed.taken(tmp_path, "centralised").mean == (0.25,)
    (tmp_path / "centralised.safetensors").write_bytes(b"cut off")
    with pytest.raises(CheckpointError, match=r"centralised\.safetensors .*; expected what the"):
        handed.taken(tmp_path, "centralised")


def test_a_process_that_dies_is_named_with_its_last_word(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [sys.executable, "-c", "import sys; sys.exit('out of paper')"]
    monkeypatch.setattr(beside, "isolated_module", lambda *_: words)
    with (
        pytest.raises(FederationError, match=r"process 1 .*exit code 1 .*out of paper; expected"),
        closing(train_beside(experiment, tmp_path, NAMES, LANES[:1], nobody)) as trained,
    ):
        next(trained)


def asked(experiment: Experiment, folder: Path, **words: object) -> Path:
    handed.ask(folder, {"experiment": to_yaml(experiment), "plugins": [], **words})
    return folder


def test_a_mistake_is_raised_as_it_was(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = replace(experiment.training, optimizer="sgd", learning_rate=1e30)
    broken = replace(experiment, training=training)
    with pytest.raises(DivergenceError) as alone:
        here(broken)
    monkeypatch.setattr(sys, "argv", ["", str(asked(broken, tmp_path / "a")), NAMES[0]])
    monkeypatch.setattr(process, "end_with_parent", nobody)
    assert process.main() == 1
    mistake = handed.mistake_in(tmp_path / "a")
    assert type(mistake) is DivergenceError
    assert str(mistake) == str(alone.value)
    assert handed.mistake_in(tmp_path) is None


@pytest.mark.parametrize("kind", [ConfigError, FederationError])
def test_a_mistake_of_a_kind_that_only_one_module_knows_is_of_the_nearest_kind(
    kind: type[PrimiaError], tmp_path: Path
) -> None:
    class Own(kind):  # type: ignore[valid-type,misc]
        pass

    handed.give_up(tmp_path, Own("a; expected b"))
    mistake = handed.mistake_in(tmp_path)
    assert type(mistake) is kind
    assert str(mistake) == "a; expected b"


def test_rows_of_ones_own_are_known_there(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = list[Path]()
    monkeypatch.setattr(process, "add_plugins", taken.append)
    process.train_in(asked(experiment, tmp_path / "a", plugins=["/own/rows"]), [])
    assert taken == [Path("/own/rows")]


def test_of_a_short_run_all_are_trained_in_this_process(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compared, "train_beside", nobody)  # would yield nothing
    names = [name for name, _, _ in train_baselines(experiment, tmp_path, nobody)]
    assert names == [*NAMES[:3], "ensemble", "centralised"]


def test_of_a_long_run_they_are_dealt_to_processes(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # of 12 s a round 2 trained nobody: 20 s for all images, and twice that for all baselines
    (tmp_path / "history.csv").write_text("seconds,seconds_outside_training\n12,2\n12,2\n")
    assert training_seconds(tmp_path) == 20.0
    asked = list[object]()
    monkeypatch.setattr(compared, "available_cores", lambda: 2)
    monkeypatch.setattr(compared, "train_beside", lambda *a: iter(asked.append(a) or ()))
    assert list(train_baselines(experiment, tmp_path, nobody)) == []
    assert asked == [(experiment, tmp_path, NAMES, LANES, nobody)]


def test_a_model_stands_as_it_was_trained(experiment: Experiment) -> None:
    dealt = dealt_sites(experiment)
    trained = train(experiment, NAMES[0], data_of(experiment, dealt, NAMES[0]), nobody)
    model, card = model_of(experiment, trained)
    assert card.round == trained.best_round
    weights = [value for value in model.parameters() if value.dim() == 4]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
    assert all(value.equal(trained.state[key]) for key, value in model.state_dict().items())
