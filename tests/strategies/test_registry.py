import logging

import pytest

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.config.experiment.training import TrainingConfig
from strategies.registry import build_strategy


def build(name, *, sites="abcd", min_sites=0, proximal_mu=0.0, **options):
    experiment = Experiment(
        strategy=StrategyConfig(name=name, options=options),
        federation=FederationConfig(sites=list(sites), min_sites=min_sites or len(sites)),
        aggregation=AggregationConfig(name="plain"),
        training=TrainingConfig(proximal_mu=proximal_mu),
    )
    return build_strategy(experiment)


def test_fedprox_gets_its_term():
    assert build("fedprox", proximal_mu=0.5).proximal_mu == 0.5


def test_krum_knows_how_many_may_lie_and_takes_one():
    rule = build("krum", sites="abcde", num_malicious=1)
    assert (rule._num_malicious, rule._num_selected) == (1, 1)


@pytest.mark.parametrize("name", ["fedadam", "fedyogi"])
def test_the_numbers_reach_the_server_optimiser(name):
    numbers = {"server_learning_rate": 0.3, "beta_1": 0.5, "beta_2": 0.6, "tau": 0.7}
    strategy = build(name, **numbers)
    assert (strategy.eta, strategy.beta_1, strategy.beta_2, strategy.tau) == (0.3, 0.5, 0.6, 0.7)


def test_a_trim_that_cuts_nobody_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        assert build("fedtrimmedavg", trim_fraction=0.25).beta == 0.25
        assert caplog.text == ""
        build("fedtrimmedavg", trim_fraction=0.2)
        assert "cuts no one off among federation.min_sites=4" in caplog.text
        caplog.clear()
        build("fedtrimmedavg", sites="abcdef", min_sites=4, trim_fraction=0.2)
    assert "cuts no one off among federation.min_sites=4" in caplog.text


def test_a_median_of_two_is_said_to_be_a_mean(caplog):
    with caplog.at_level(logging.WARNING):
        build("fedmedian", sites="abc", min_sites=3)
        assert caplog.text == ""
        build("fedmedian", sites="abc", min_sites=2)
    assert "the median of a round with two sites is their mean" in caplog.text
