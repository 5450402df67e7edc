"""The cross-site matrix of four sites in memory: who is asked what, and what is kept."""

import json

import pytest

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.data import NormalisationConfig
from primia_flwr.config.experiment.debug import DebugConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import FederationStoppingConfig
from primia_flwr.config.load import compose, config_hash, parse
from primia_flwr.errors import ConfigError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.runs.cross_site import read_matrix
from primia_flwr.tasks.classification import TASK
from strategies.registry import build_aggregator
from strategies.rounds.config import LoopConfig
from strategies.rounds.loop import RoundLoop

NAMES = ["london", "munich"]


def right_near(best):
    """Right predictions out of 10: fewer the farther w is from the site's own best."""
    return lambda w: 10 - round(4 * abs(float(w[0]) - best))


@pytest.fixture
def sites(make_site):
    return {
        11: make_site("munich", target=1.0, right=right_near(1.0)),
        12: make_site("london", target=2.0, right=right_near(2.0)),
    }


def start(fake, model, folder, *, cross_site=True, resume=False, rounds=1):
    federation = FederationConfig(
        rounds=rounds, sites=NAMES, min_sites=2, round_timeout=1, wait_for_sites=0.05
    )
    experiment = Experiment(
        federation=federation,
        aggregation=AggregationConfig(float_mean=True),
        debug=DebugConfig(cross_site=cross_site),
    )
    aggregator = build_aggregator(experiment, model=model, parameters=["w"], outputs=2)
    cfg = LoopConfig(
        task=TASK,
        federation=federation,
        stopping=FederationStoppingConfig(monitor="accuracy", patience=0),
        normalisation=NormalisationConfig(),
        channels=1,
        config_hash="c0ffee",
        cross_site=cross_site,
    )
    loop = RoundLoop(cfg, RosterGrid(fake, NAMES, None), aggregator, folder)
    return loop.run(model, resume=resume)


def test_each_sites_own_model_is_validated_at_every_site(sites, make_grid, model, tmp_path):
    """Round 1 from w=0: munich sends 0.5, london 1.0, their mean is 0.75."""
    fake = make_grid(sites)
    start(fake, model, tmp_path)
    matrix = read_matrix(tmp_path)
    assert matrix.sites == ("london", "munich")
    assert [(row.model, row.round) for row in matrix.rows] == [
        ("Federated", 1),
        ("london", 1),
        ("munich", 1),
    ]
    accuracy = {r.model: {s: c.figure("accuracy") for s, c in r.cells.items()} for r in matrix.rows}
    assert accuracy == {
        "Federated": {"london": 0.5, "munich": 0.9},  # 10 - 4 * 1.25, 10 - 4 * 0.25
        "london": {"london": 0.6, "munich": 1.0},
        "munich": {"london": 0.4, "munich": 0.8},
    }
    # one evaluation closes the run, three make the matrix; nothing else is asked
    assert [kind for _, kind in fake.asked].count("evaluate") == 2 * (1 + 3)


def test_history_and_result_are_those_of_a_run_without_it(sites, make_grid, model, tmp_path):
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    one = start(make_grid(sites), model, tmp_path / "with", rounds=2)
    other = start(make_grid(sites), model, tmp_path / "without", rounds=2, cross_site=False)
    assert {k: v.tolist() for k, v in one.best.items()} == {
        k: v.tolist() for k, v in other.best.items()
    }
    columns = [
        [line.split(",")[:5] for line in (tmp_path / name / "sites.csv").read_text().splitlines()]
        for name in ("with", "without")
    ]
    assert columns[0] == columns[1]
    assert read_matrix(tmp_path / "without") is None


def test_a_site_that_is_away_leaves_an_empty_cell(sites, make_grid, model, tmp_path):
    sites[12].tricks = {("evaluate", number): lambda content, message: None for number in (2, 3, 4)}
    start(make_grid(sites), model, tmp_path)
    matrix = read_matrix(tmp_path)
    assert [sorted(row.cells) for row in matrix.rows] == [["munich"]] * 3
    assert matrix.sites == ("london", "munich")


def test_a_finished_run_that_is_resumed_keeps_its_matrix(sites, make_grid, model, tmp_path):
    start(make_grid(sites), model, tmp_path)
    before = (tmp_path / "cross_site.json").read_bytes()
    fake = make_grid(sites)
    start(fake, model, tmp_path, resume=True)
    assert fake.asked == []
    assert (tmp_path / "cross_site.json").read_bytes() == before


def test_models_are_kept_only_where_they_are_wanted(model):
    exchanges = [
        build_aggregator(
            Experiment(debug=DebugConfig(cross_site=wanted)),
            model=model, parameters=["w"], outputs=2,
        )
        for wanted in (True, False)
    ]  # fmt: skip
    assert [aggregator._keep_models for aggregator in exchanges] == [True, False]
    assert exchanges[0].site_models() == {}


def test_secure_aggregation_refuses_with_the_reason():
    words = ["aggregation=secure", "debug.cross_site=true"]
    with pytest.raises(ConfigError, match=r"cross_site=true with aggregation\.name=secure"):
        parse(Experiment, compose("config", words))


def test_it_decides_nothing_about_the_result():
    plain, crossed = (
        config_hash(Experiment(debug=DebugConfig(cross_site=wanted))) for wanted in (False, True)
    )
    assert plain == crossed


def test_the_event_says_how_large_the_matrix_is(sites, make_grid, model, tmp_path):
    start(make_grid(sites), model, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    found = [line for line in lines if line["event"] == "cross_site"]
    assert [(line["models"], line["sites"]) for line in found] == [(3, 2)]
