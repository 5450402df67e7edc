"""What sites weigh in a secure sum is looked at before they train."""

from __future__ import annotations

import pytest

from primia_flwr.config.load import compose_experiment
from primia_flwr.errors import ConfigError
from primia_flwr.pipeline.weights import check_weights

IMAGES = {"munich": 10_001, "paris": 900}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "munich 10001.*set aggregation.max_weight=100000"),
        (["aggregation.max_weight=800"], "munich 10001, paris 900"),
        # 10,001 images are 2501 batches of 4
        (
            ["strategy.weighting=batches", "training.batch_size=4", "aggregation.max_weight=2500"],
            "munich 2501.*max_weight=10000",
        ),
    ],
)
def test_a_site_above_the_bound_is_named(words: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_weights(compose_experiment(words), IMAGES)


@pytest.mark.parametrize(
    "words",
    [
        ["aggregation=plain"],
        ["strategy.weighting=equal"],
        ["aggregation.max_weight=10001"],
        ["strategy.weighting=batches", "training.batch_size=2"],
    ],
)
def test_others_go_on(words: list[str]) -> None:
    check_weights(compose_experiment(words), IMAGES)
