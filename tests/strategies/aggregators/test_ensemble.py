"""The ensemble among sites in memory. Each goes half the way from its own model to its target.

From 0, with targets 4 (berlin), 8 (london) and 1 (munich): 2, 4 and 1/2, then 3, 6 and 3/4.
"""

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Error

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError, DataError, FederationError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.runs.cross_site import read_matrix
from strategies.aggregators.ensemble import beside, members_of, model_of, votes_of
from strategies.registry import build_aggregator
from strategies.rounds.config import LoopConfig
from strategies.rounds.loop import RoundLoop

NAMES = ["berlin", "london", "munich"]


def experiment(vote="mean", *, rounds=2, min_sites=2):
    return Experiment(
        strategy=StrategyConfig(name="ensemble", options={"vote": vote}),
        federation=FederationConfig(
            rounds=rounds, sites=NAMES, min_sites=min_sites, round_timeout=1, wait_for_sites=0
        ),
    )


@pytest.fixture
def sites(make_site):
    targets = {"berlin": 4.0, "london": 8.0, "munich": 1.0}
    return {
        11 + place: make_site(name, target=target, var=target)
        for place, (name, target) in enumerate(targets.items())
    }


@pytest.fixture
def start(tmp_path, model):
    def run(fake, asked=None, *, resume=False):
        asked = asked or experiment()
        aggregator = build_aggregator(asked, model=model, parameters=["w"], outputs=2)
        grid = RosterGrid(fake, NAMES)
        loop = RoundLoop(LoopConfig.of(asked), grid, aggregator, tmp_path)
        return loop.run(beside(dict.fromkeys(NAMES, model)), resume=resume)

    return run


def w(state):
    return [model_of(state.model, name)["w"].tolist() for name in NAMES]


def test_two_rounds_by_hand_each_site_with_its_own_model(start, sites, make_grid):
    state = start(make_grid(sites))
    assert w(state) == [[3.0, 3.0], [6.0, 6.0], [0.75, 0.75]]
    own = [model_of(state.model, name)["bn.running_var"].tolist() for name in NAMES]
    assert own == [[4.0], [8.0], [1.0]]
    assert state.round == 2


def test_the_round_is_chosen_by_each_model_at_its_own_site(start, sites, make_grid):
    for site, good in zip(sites.values(), (2.0, 4.0, 0.5), strict=True):
        site.right = lambda w, good=good: 9 if w[0] == good else 4
    state = start(make_grid(sites))
    assert state.best_round == 1
    assert model_of(state.best, "london")["w"].tolist() == [4.0, 4.0]
    assert state.validation["n"] == 30


def test_a_site_that_fails_keeps_what_it_had(start, sites, make_grid):
    sites[12].tricks["train", 2] = lambda content, message: Error(code=0, reason="disk full")
    assert w(start(make_grid(sites))) == [[3.0, 3.0], [4.0, 4.0], [0.75, 0.75]]


def test_a_run_that_is_gone_on_with_ends_in_the_same_models(start, sites, make_grid):
    fake = make_grid(sites)
    sites[13].tricks["train", 2] = lambda content, message: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        start(fake)
    assert w(start(fake, resume=True)) == [[3.0, 3.0], [6.0, 6.0], [0.75, 0.75]]


def test_every_site_judges_every_model_and_the_worse_half_has_no_vote(
    start, sites, make_grid, tmp_path
):
    """All find london's model best, then berlin's, then munich's: ranks 1, 3/4 and 1/2 of two."""
    for site in sites.values():
        site.right = lambda w: {6.0: 9, 3.0: 6}.get(float(w[0]), 3)
    state = start(make_grid(sites), experiment("insulearn"))
    matrix = read_matrix(tmp_path)
    assert [row.model for row in matrix.rows] == NAMES
    assert all(sorted(row.cells) == NAMES for row in matrix.rows)
    votes = votes_of(experiment("insulearn"), NAMES, state.sites, tmp_path)
    # alike in size: 3/4 and 1 of 7/4
    assert votes.weights == (pytest.approx(3 / 7), pytest.approx(4 / 7), 0.0)


def test_votes_by_size_and_alike(tmp_path):
    sizes = [
        {"site": name, "train": count} for name, count in zip(NAMES, (10, 30, 60), strict=True)
    ]
    assert votes_of(experiment("size"), NAMES, sizes, tmp_path).weights == (0.1, 0.3, 0.6)
    assert votes_of(experiment(), NAMES[:2], sizes, tmp_path).weights == (0.5, 0.5)
    with pytest.raises(DataError, match=r"cross_site\.json is missing; expected the sites'"):
        votes_of(experiment("insulearn"), NAMES, sizes, tmp_path)


def test_a_site_that_never_trained_is_no_member(model):
    trained = {**model, "w": np.ones(2, np.float32)}
    best = beside({"berlin": trained, "london": model})
    assert list(members_of(best, model)) == ["berlin"]
    with pytest.raises(FederationError, match="no site has trained a model"):
        members_of(beside({"london": model}), model)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"aggregation": AggregationConfig(name="secure")}, "set aggregation=plain"),
        ({"model": ModelConfig(trainable="head", weights="w.pth")}, "model.trainable=head"),
        (
            {
                "strategy": StrategyConfig(name="ensemble", options={"vote": "insulearn"}),
                "federation": FederationConfig(sites=NAMES[:2]),
            },
            "vote=insulearn with 2 sites; expected three",
        ),
    ],
)
def test_what_an_ensemble_cannot_be_combined_with(values, said):
    federation = FederationConfig(sites=NAMES, min_sites=3)
    with pytest.raises(ConfigError, match=said):
        Experiment(
            **{"strategy": StrategyConfig(name="ensemble"), "federation": federation, **values}
        )
    with pytest.raises(ConfigError, match="vote=best; expected one of mean, size, insulearn"):
        replace(experiment("best"))
