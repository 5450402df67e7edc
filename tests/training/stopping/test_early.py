import json

import numpy as np
import pytest

from primia_flwr.config.experiment.training import SiteStoppingConfig
from primia_flwr.tasks.classification import TASK
from primia_flwr.tasks.task import Evaluation
from primia_flwr.training.stopping.early import Patience
from primia_flwr.training.stopping.site import SiteStopping


def scored(loss: float, right: int = 5) -> Evaluation:
    """Ten images, five of each class; `right` of the second class are predicted right."""
    counts = {"confusion": np.array([5, 0, 5 - right, right], dtype=np.int64)}
    return Evaluation(TASK, 10 * loss, 10, counts)


def test_stops_after_patience_losses_without_improvement() -> None:
    patience = Patience("loss", 2)
    told = [patience.update(scored(loss), step) for step, loss in enumerate([3, 1, 2, 1])]
    assert told == [True, True, False, False]
    assert (patience.best, patience.best_step, patience.bad) == (1.0, 1, 2)
    assert patience.should_stop


def test_an_improvement_starts_the_count_anew() -> None:
    patience = Patience("loss", 2)
    for step, loss in enumerate([3, 4, 2, 3]):
        patience.update(scored(loss), step)
    assert patience.bad == 1
    assert not patience.should_stop


@pytest.mark.parametrize("monitor", ["mcc", "accuracy", "balanced_accuracy"])
def test_scores_are_better_when_higher(monitor: str) -> None:
    patience = Patience(monitor, 1)
    assert patience.update(scored(1.0, right=2), 0)
    assert patience.update(scored(9.0, right=4), 1)
    assert not patience.update(scored(0.0, right=3), 2)


def test_min_delta_must_be_exceeded() -> None:
    patience = Patience("loss", 5, min_delta=0.5)
    assert [patience.update(scored(loss), 0) for loss in (3.0, 2.5, 2.25)] == [True, False, True]


def test_zero_never_stops_and_remembers_the_best() -> None:
    patience = Patience("loss", 0)
    for step in range(50):
        patience.update(scored(1.0 + step), step)
    assert not patience.should_stop
    assert patience.best_step == 0


def test_nan_is_no_improvement_even_at_the_start() -> None:
    patience = Patience("loss", 1)
    assert not patience.update(scored(float("nan")), 0)
    assert patience.should_stop
    assert patience.best is None


def test_patience_survives_a_checkpoint() -> None:
    patience = Patience("mcc", 3, 0.01)
    patience.update(scored(1.0), 1)
    patience.update(scored(1.0), 2)
    assert Patience.from_dict(json.loads(json.dumps(patience.to_dict()))) == patience


CFG = SiteStoppingConfig(monitor="loss", patience=1, retire_after=2)


def retired_site() -> SiteStopping:
    site = SiteStopping()
    for _ in range(2):
        assert site.should_train(CFG, scored(1.0))
        site.record_round(CFG, stopped_early=True)
    return site


def test_retires_after_consecutive_early_stops_only() -> None:
    site = SiteStopping()
    for stopped in (True, False, True):
        site.record_round(CFG, stopped_early=stopped)
    assert not site.retired
    site.record_round(CFG, stopped_early=True)
    assert site.retired


def test_rests_while_the_global_model_is_no_worse_than_the_best_seen() -> None:
    site = retired_site()
    assert [site.should_train(CFG, scored(loss)) for loss in (1.0, 0.5, 0.5)] == [False] * 3


def test_trains_again_when_the_global_model_got_worse_and_counts_anew() -> None:
    site = retired_site()
    assert not site.should_train(CFG, scored(0.5))
    assert site.should_train(CFG, scored(0.75))
    assert site.stopped_rounds == 0
    site.record_round(CFG, stopped_early=True)
    assert site.should_train(CFG, scored(0.75))
    site.record_round(CFG, stopped_early=True)
    assert site.retired


def test_min_delta_tolerates_a_little_worse() -> None:
    cfg = SiteStoppingConfig(monitor="loss", patience=1, retire_after=2, min_delta=0.1)
    assert not retired_site().should_train(cfg, scored(1.05))
    assert retired_site().should_train(cfg, scored(1.25))


def test_mcc_is_worse_when_lower() -> None:
    cfg = SiteStoppingConfig(monitor="mcc", patience=1, retire_after=1)
    site = SiteStopping()
    assert site.should_train(cfg, scored(1.0, right=4))
    site.record_round(cfg, stopped_early=True)
    assert not site.should_train(cfg, scored(1.0, right=5))
    assert site.should_train(cfg, scored(1.0, right=4))


def test_without_retirement_or_validation_a_site_always_trains() -> None:
    off = SiteStoppingConfig(patience=1)
    site = SiteStopping()
    for _ in range(9):
        site.record_round(off, stopped_early=True)
    assert site.should_train(off, scored(1.0))
    assert retired_site().should_train(CFG, None)


def test_site_state_survives_json() -> None:
    site = retired_site()
    assert SiteStopping.from_dict(json.loads(json.dumps(site.to_dict()))) == site
