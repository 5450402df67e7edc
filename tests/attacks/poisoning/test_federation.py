"""A run's images dealt anew, and the training of its sites."""

from pathlib import Path

import pytest

from primia_flwr.attacks.poisoning.answers import answer_of
from primia_flwr.attacks.poisoning.federation import Poisoned
from primia_flwr.attacks.poisoning.liars import Lie
from primia_flwr.attacks.poisoning.report import answer
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose_experiment
from primia_flwr.errors import ConfigError
from primia_flwr.training.normalisation import Normalisation

TINY = (
    "model=simpleconv",
    "data.synthetic.patients=36",
    "data.image_size=16",
    "federation.rounds=2",
)
SHARES = ("data.partition.kind=quantity", "data.partition.shares=[0.5,0.3,0.2]")


def run_of(folder: Path, *words: str) -> Experiment:
    return compose_experiment([*TINY, f"data.cache_dir={folder}", "training.threads=1", *words])


def poisoned(run: Experiment, sites: int) -> Poisoned:
    return Poisoned.of(run, Normalisation((0.5,), (0.25,)), sites=sites, liars=1, device="cpu")


def test_as_many_sites_as_the_run_has_keep_their_names(tmp_path: Path) -> None:
    run = run_of(tmp_path, "federation.sites=[berlin,london,munich]", *SHARES)
    own = poisoned(run, 3)
    assert own.experiment.federation.sites == ["berlin", "london", "munich"]
    assert len(own.sites[0]) > len(own.sites[2])  # 0.5 and 0.2 of the patients
    other = poisoned(run_of(tmp_path), 4)
    assert other.experiment.federation.sites == [f"site-{n}" for n in (1, 2, 3, 4)]


def test_images_that_are_dealt_to_the_runs_own_sites_go_to_no_others(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"data.partition.shares deals to 3 sites; expected sites=3"
    ):
        poisoned(run_of(tmp_path, *SHARES), 5)
    with pytest.raises(ConfigError, match=r"its manifest deals to 3 sites; expected sites=3"):
        poisoned(run_of(tmp_path, "data.partition.kind=manifest"), 4)


def test_sites_that_stop_early_are_trained_to_the_end(tmp_path: Path) -> None:
    """The attack holds no validation images, without which nothing can stop a round."""
    stop = ("training.local_epochs=2", "training.early_stopping.site.patience=1")
    found = poisoned(run_of(tmp_path, *stop), 3)
    mean = answer_of("fedavg", found.experiment, frozenset(), liars=1, clip=1.0)
    outcome = found.run(Lie("none", 1.0, 0, 2), mean, 1)
    assert outcome.figures is not None
    assert 0 <= outcome.figures["accuracy"] <= 1


def test_without_a_lie_nothing_is_compared() -> None:
    assert answer([]) == "Nothing was compared: no lie, or no rule without one."
