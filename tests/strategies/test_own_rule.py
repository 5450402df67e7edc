"""A rule in a file of its own is fed what its row says that it needs, and nothing else."""

import sys

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord

from primia_flwr.config import rows
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse
from primia_flwr.config.rules import Need
from primia_flwr.errors import ConfigError
from primia_flwr.flower.roster_grid import RosterGrid
from strategies.aggregators.aggregator import Request
from strategies.aggregators.fixed_point import FixedPointAggregator
from strategies.aggregators.plain import PlainAggregator
from strategies.aggregators.secure.aggregator import SecureAggregator
from strategies.registry import build_aggregator

# Scales each site's update to an L2 norm of at most max_norm, then averages (Sun et al. 2019).
BOUNDED = """
from dataclasses import dataclass

import numpy as np

from primia_flwr.config.rules import Need, Rule


@dataclass(frozen=True)
class Options:
    max_norm: float = 1.0


def build(options, experiment):
    from flwr.app import Array, ArrayRecord

    from strategies.averaging.weighted_fedavg import ALL_SELECTED, WeightedFedAvg

    class Bounded(WeightedFedAvg):
        fed = ()

        def configure_train(self, server_round, arrays, config, grid):
            self.sent = {name: array.numpy() for name, array in arrays.items()}
            return super().configure_train(server_round, arrays, config, grid)

        def aggregate_train(self, server_round, replies):
            replies = list(replies)
            self.fed = (*self.fed, len(replies))
            for reply in replies:
                reply.content["arrays"] = self.bounded(reply.content["arrays"])
            return super().aggregate_train(server_round, replies)

        def bounded(self, arrays):
            updates = {name: a.numpy() - self.sent[name] for name, a in arrays.items()}
            norm = np.sqrt(sum(np.sum(np.square(u, dtype=np.float64)) for u in updates.values()))
            factor = np.float32(options.max_norm / max(norm, options.max_norm))
            return ArrayRecord({n: Array(self.sent[n] + factor * u) for n, u in updates.items()})

    return Bounded(**ALL_SELECTED)


RULE = Rule(build, options=Options, needs=Need.{need})
"""
UPDATES = {"london": (3.0, 4.0), "munich": (0.6, 0.0)}


@pytest.fixture
def rule(tmp_path, monkeypatch):
    """Return a function that puts the rule with a declared need into a plugins folder."""
    monkeypatch.setattr(rows, "_PLUGINS", [])

    def put(need):
        folder = tmp_path / "plugins"
        (folder / "strategies").mkdir(parents=True)
        (folder / "strategies" / "bounded.py").write_text(BOUNDED.replace("{need}", need.name))
        (folder / "conf" / "strategy").mkdir(parents=True)
        yaml = "defaults: [fedavg]\nname: bounded\noptions: {max_norm: 1.0}\n"
        (folder / "conf" / "strategy" / "bounded.yaml").write_text(yaml)
        rows.add_plugins(folder)

    yield put
    sys.modules.pop("primia_plugins.strategies.bounded", None)


def experiment(*words):
    sites = f"federation.sites=[{','.join(UPDATES)}]"
    return parse(Experiment, compose("config", ["strategy=bounded", sites, *words]))


def sends(update):
    def answer(content, message):
        if message.metadata.message_type == "train":
            arrays = {"w": np.array(update, np.float32), "bn.running_var": np.ones(1, np.float32)}
            content["arrays"] = ArrayRecord({name: Array(one) for name, one in arrays.items()})
        return content

    return answer


def one_round(asked, make_site, make_grid, model):
    """Return the aggregator, how many replies it fed the rule with, and the new w."""
    sites = {
        number: make_site(name, always=sends(update))
        for number, (name, update) in enumerate(UPDATES.items(), 11)
    }
    grid = RosterGrid(make_grid(sites), list(UPDATES))
    for node, site in sites.items():
        grid.introduce(node, site.name)
    grid.select()
    aggregator = build_aggregator(asked, model=model, parameters=["w"], outputs=2)
    request = Request(1, model, ConfigRecord({"pixel-mean": [0.5]}), 0.02)
    outcome = aggregator.train(request, grid, lambda row: None)
    return aggregator, aggregator._strategy.fed, outcome.arrays["w"]


def test_a_rule_that_bounds_each_update_is_fed_each_update(rule, make_site, make_grid, model):
    """(3, 4) becomes (0.6, 0.8), (0.6, 0) stays: their mean is (0.6, 0.4)."""
    rule(Need.EACH_UPDATE)
    asked = experiment("aggregation=plain")
    aggregator, fed, w = one_round(asked, make_site, make_grid, model)
    assert type(aggregator) is PlainAggregator
    assert fed == (2,)
    assert w == pytest.approx([0.6, 0.4])


def test_its_options_are_those_of_its_own_row(rule, make_site, make_grid, model):
    """A bound of 10 bounds nothing: ((3, 4) + (0.6, 0)) / 2."""
    rule(Need.EACH_UPDATE)
    asked = experiment("aggregation=plain", "strategy.options.max_norm=10")
    assert one_round(asked, make_site, make_grid, model)[2] == pytest.approx([1.8, 2.0])
    with pytest.raises(ConfigError, match=r"strategy\.options\.max_norm='far'; expected a number"):
        experiment("aggregation=plain", "strategy.options.max_norm=far")


def test_what_it_would_make_of_the_mean_is_something_else(rule, make_site, make_grid, model):
    """The same rule if it claimed to need the mean, (1.8, 2), only: (1.8, 2) / 2.691."""
    rule(Need.MEAN)
    aggregator, fed, w = one_round(experiment("aggregation=plain"), make_site, make_grid, model)
    assert type(aggregator) is FixedPointAggregator
    assert fed == (1,)
    assert w == pytest.approx([0.669, 0.743], abs=1e-3)


@pytest.mark.parametrize("need", [Need.EACH_UPDATE, Need.ONE_SITE])
def test_secure_aggregation_refuses_a_rule_that_needs_more_than_the_mean(rule, need):
    rule(need)
    said = rf"strategy\.name=bounded with aggregation\.name=secure; bounded needs {need.value}"
    with pytest.raises(ConfigError, match=said):
        experiment("federation.sites=[berlin,london,munich]", "aggregation=secure")


@pytest.mark.parametrize("need", [Need.EACH_UPDATE, Need.ONE_SITE])
@pytest.mark.parametrize(
    ("aggregator", "described"),
    [
        (FixedPointAggregator, {"layout": None}),
        (SecureAggregator, {"experiment": None, "session": None, "outputs": 2, "sent": None}),
    ],
)
def test_an_aggregator_of_means_takes_no_rule_that_needs_more(need, aggregator, described):
    """Whoever builds it, and whatever the configuration checked before."""
    with pytest.raises(ConfigError, match=f"a rule that needs {need.value} is fed the weighted m"):
        aggregator(None, {}, (), needs=need, **described)


@pytest.mark.parametrize("aggregator", [FixedPointAggregator, SecureAggregator])
def test_an_aggregator_of_means_has_to_be_told_the_need(aggregator):
    with pytest.raises(TypeError, match="needs"):
        aggregator(None, {}, ())
