"""A part of an update is refused where it would be wrong, with what to set instead."""

import pytest

from primia_flwr.config.load import compose_experiment, config_hash
from primia_flwr.errors import ConfigError

PART = "aggregation.share=0.1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["aggregation.share=0"], r"aggregation.share=0.*above 0"),
        (["aggregation.share=1.5"], r"aggregation.share=1.5"),
        (["aggregation.share=nan"], r"aggregation.share=nan"),
        (["aggregation.receive=0.1"], r"aggregation.receive=0.1; expected 1: every site"),
        (["aggregation.share_by=largest"], r"aggregation.share_by=largest; expected one of random"),
        ([PART, "aggregation.share_by=own"], r"masks add up only.*aggregation=plain"),
        (
            [PART, "aggregation=plain", "debug.cross_site=true"],
            r"aggregation.share=0.1 with debug.cross_site=true",
        ),
        ([PART, "debug.record_received=true"], r"a masked part is no update"),
        ([PART, "strategy=cyclic", "aggregation=relay"], r"strategy.name=cyclic; expected 1"),
        (
            [PART, "privacy=dp_sgd_shared", "privacy.epsilon=3"],
            r"aggregation.share=0.1 with privacy.mode=dp_sgd_shared; expected 1",
        ),
    ],
)
def test_what_does_not_fit_a_part(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose_experiment([*words, "tracking=disabled"])


def test_all_of_an_update_is_the_experiment_that_it_was() -> None:
    """Runs of before may be resumed: the new keys decide nothing until they are set."""
    whole = compose_experiment([])
    assert config_hash(whole) == config_hash(compose_experiment(["aggregation.share_by=change"]))
    assert config_hash(whole) != config_hash(compose_experiment([PART]))


@pytest.mark.parametrize(("entries", "sent"), [(1, 1), (4, 1), (10, 1), (15, 2), (1000, 100)])
def test_one_number_at_least_is_sent(entries: int, sent: int) -> None:
    assert compose_experiment([PART]).num_sent(entries) == sent
