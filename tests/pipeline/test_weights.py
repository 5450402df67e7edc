"""Sites that weigh more than the fixed point has room for are found before anybody trains."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from flwr.supercore.task_identity import TaskIdentity

from clients.handlers import train
from primia_flwr.config.load import compose_experiment
from primia_flwr.errors import ConfigError, DivergenceError
from primia_flwr.pipeline.weights import check_mean_weight, check_weights, planned_weight
from tests.walks.federation import Federation


@pytest.mark.parametrize(
    ("words", "weight"),
    [
        (("strategy.weighting=images",), 33),
        # 33 images in batches of 16 are three steps an epoch
        (("strategy.weighting=batches", "training.batch_size=16", "training.local_epochs=2"), 6),
        (("strategy.weighting=equal",), 0),
        (("strategy.weighting=images", "strategy.weight_digits=1"), 30),
        (("strategy.weighting=images", "aggregation=plain"), 0),
    ],
)
def test_what_a_site_will_weigh(words: tuple[str, ...], weight: int) -> None:
    assert planned_weight(compose_experiment(["aggregation=secure", *words]), 33) == weight


def test_the_bound_itself_is_allowed_and_the_remedy_has_room() -> None:
    cfg = compose_experiment(["aggregation=secure", "aggregation.max_weight=33"])
    check_weights(cfg, {"munich": 33})
    check_mean_weight(cfg, 3 * 33 + 2, 3)
    with pytest.raises(ConfigError, match=r"weigh more: munich 34; .* aggregation.max_weight=100"):
        check_weights(cfg, {"munich": 34, "paris": 3})
    with pytest.raises(ConfigError, match=r"3 sites weigh 34 on average; .*max_weight=100 or more"):
        check_mean_weight(cfg, 3 * 34, 3)


@pytest.mark.parametrize(("images", "refused"), [(10_449, False), (10_500, True)])
def test_a_mean_that_sites_round_to_the_bound_is_allowed(images: int, refused: bool) -> None:
    """A site puts two digits of its weight into the sum by default: 10,449 are 10,000."""
    cfg = compose_experiment(["aggregation=secure", "aggregation.max_weight=10000"])
    with pytest.raises(ConfigError) if refused else nullcontext():
        check_mean_weight(cfg, 3.0 * images, 3)


@pytest.fixture(autouse=True)
def known_to_flower(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the sites that train, as they do."""
    names: list[str] = []
    real = train.train_round

    def train_round(site: Any, *args: Any, **how: Any) -> Any:
        names.append(site.name)
        return real(site, *args, **how)

    monkeypatch.setattr(train, "train_round", train_round)
    return names


def test_sites_that_weigh_too_much_on_average_are_never_asked_to_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = trained(monkeypatch)
    run = Federation(tmp_path, "aggregation=secure", "aggregation.max_weight=2")
    with pytest.raises(ConfigError, match=r"aggregation.max_weight=2, but .* weigh \d+ on average"):
        run.run()
    assert names == []


def test_one_that_weighs_too_much_declines_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = trained(monkeypatch)
    shares = ["data.partition.kind=quantity", "data.partition.shares=[0.7,0.15,0.15]"]
    run = Federation(tmp_path, "aggregation=secure", "aggregation.max_weight=16", *shares)
    with pytest.raises(DivergenceError, match=r"1 of 3 sites declined: .* aggregation\.max"):
        run.run()
    assert len(set(names)) == 2
