import logging

from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.strategy import StrategyConfig
from strategies.registry import build_strategy

FOUR = FederationConfig(sites=["a", "b", "c", "d"], min_sites=4)


def test_fedprox_gets_its_term():
    assert build_strategy(StrategyConfig(name="fedprox"), FOUR, proximal_mu=0.5).proximal_mu == 0.5


def test_krum_knows_how_many_may_lie():
    five = FederationConfig(sites=list("abcde"), min_sites=5)
    strategy = build_strategy(StrategyConfig(name="krum", num_malicious=1), five, proximal_mu=0)
    assert strategy.num_malicious_nodes == 1


def test_the_numbers_reach_the_server_optimiser():
    cfg = StrategyConfig(name="fedyogi", server_learning_rate=0.3, beta_1=0.5, beta_2=0.6, tau=0.7)
    strategy = build_strategy(cfg, FOUR, proximal_mu=0)
    assert (
        strategy.eta,
        strategy.options.beta_1,
        strategy.options.beta_2,
        strategy.options.tau,
    ) == (0.3, 0.5, 0.6, 0.7)


def test_a_trim_that_cuts_nobody_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        build_strategy(
            StrategyConfig(name="fedtrimmedavg", trim_fraction=0.25), FOUR, proximal_mu=0
        )
        assert caplog.text == ""
        build_strategy(StrategyConfig(name="fedtrimmedavg", trim_fraction=0.2), FOUR, proximal_mu=0)
    assert "cuts no one off among 4 sites" in caplog.text
