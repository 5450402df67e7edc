import csv
import json

import numpy as np
import pytest

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import (
    EarlyStoppingConfig,
    FederationStoppingConfig,
    TrainingConfig,
)
from primia_flwr.errors import FederationError
from primia_flwr.flower.roster_grid import RosterGrid
from strategies.registry import build_aggregator
from strategies.rounds.config import LoopConfig
from strategies.rounds.loop import RoundLoop
from tests.strategies.aggregators.asynchronous.slow_grid import SlowGrid

NAMES = ["berlin", "london", "munich", "paris"]
TARGETS = {"berlin": 1.0, "london": 2.0, "munich": 3.0, "paris": 4.0}
SLOW = {1: 10.0, 2: 10.0, 3: 10.0, 4: 55.0}  # paris takes five times as long


@pytest.fixture
def hospitals(make_site):
    def make():
        return {node: make_site(name, target=TARGETS[name]) for node, name in enumerate(NAMES, 1)}

    return make


@pytest.fixture
def start(model, tmp_path, clock):
    def run(sites, *, takes=SLOW, resume=False, patience=0, rounds=10, fake=None, **aggregation):
        federation = FederationConfig(
            rounds=rounds, sites=NAMES, min_sites=2, round_timeout=1000, wait_for_sites=0.05
        )
        stopping = FederationStoppingConfig(monitor="accuracy", patience=patience)
        experiment = Experiment(
            federation=federation,
            aggregation=AggregationConfig(**{"name": "asynchronous", "buffer": 3, **aggregation}),
            training=TrainingConfig(early_stopping=EarlyStoppingConfig(federation=stopping)),
        )
        fake = fake or SlowGrid(sites, clock, takes)
        aggregator = build_aggregator(experiment, model=model, parameters=["w"], outputs=2)
        loop = RoundLoop(LoopConfig.of(experiment), RosterGrid(fake, NAMES), aggregator, tmp_path)
        return loop.run(model, resume=resume), fake

    return run


def table(tmp_path, name):
    with (tmp_path / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def events(tmp_path, name):
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == name]


def test_one_slow_site_does_not_hold_the_others_up(start, hospitals, tmp_path, clock):
    state, fake = start(hospitals())
    assert (state.round, state.validated, state.best_round) == (10, 10, 10)
    # a round takes 10 s and not 55; then all validate, paris when it has trained
    rounds = table(tmp_path, "history")
    begun = [at for node, number, at in fake.trained if node == 1]
    assert begun[-1] == pytest.approx(90, abs=15)
    assert [number for node, number, _ in fake.trained if node == 4] == [1, 7]
    rows = table(tmp_path, "sites")
    paris = [(row["status"], row["staleness"]) for row in rows if row["site"] == "paris"]
    assert paris[:7] == [("busy", "")] * 5 + [("ok", "5"), ("busy", "")]
    # three of four in each round, the fourth is busy and has not failed
    assert {(row["sites"], row["failed"]) for row in rounds} == {("3", "0")}
    assert len(rows) == 40


def test_the_last_model_is_the_result_where_none_before_it_was_validated(
    start, hospitals, tmp_path
):
    sites = hospitals()
    for site in sites.values():
        site.right = lambda w: 9 if w[0] < 1.1 else 3  # the first models are the best
    state, _ = start(sites)
    assert state.best_round == 10
    assert state.best["w"].tobytes() == state.model["w"].tobytes()
    rounds = table(tmp_path, "history")
    assert [row["val_accuracy"] for row in rounds] == [""] * 9 + ["0.3"]
    assert [row["best"] for row in rounds] == ["0"] * 9 + ["1"]
    assert state.validation["n"] == 40  # of all sites, at the end
    assert [site.seen.count("evaluate") for site in sites.values()] == [1, 1, 1, 1]


def test_models_are_compared_where_all_sites_validate_them(start, hospitals, tmp_path):
    sites = hospitals()
    for site in sites.values():
        site.right = lambda w: 9 if w[0] < 1.9 else 3
    state, _ = start(sites, validate_every=2, rounds=6)
    known = {row["round"]: row["val_accuracy"] for row in table(tmp_path, "history")}
    assert [number for number, value in known.items() if value] == ["2", "4", "6"]
    assert known["2"] == "0.9"
    assert known["6"] == "0.3"
    assert (state.best_round, state.validated) == (2, 6)
    assert state.best["w"][0] < 1.9 < state.model["w"][0]
    assert [event["round"] for event in events(tmp_path, "validated")] == [2, 4, 6]
    assert all("val_accuracy" in event for event in events(tmp_path, "validated"))


def test_it_stops_early_by_those_validations(start, hospitals, tmp_path):
    sites = hospitals()
    for site in sites.values():
        site.right = lambda w: 9 if w[0] < 1.9 else 3
    state, _ = start(sites, validate_every=2, patience=1, rounds=10)
    assert (state.stopped, state.best_round) == ("early-stopping", 2)
    assert state.round < 10


def test_a_crash_asks_anew_and_counts_nothing_twice(start, hospitals, tmp_path, clock):
    def dies(content, message):
        raise KeyboardInterrupt

    broken = hospitals()
    broken[2].tricks["train", 4] = dies
    fake = SlowGrid(broken, clock, SLOW)
    with pytest.raises(KeyboardInterrupt):
        start(broken, fake=fake)
    assert [row["round"] for row in table(tmp_path, "history")] == ["1", "2", "3"]
    before = set(fake._replies)  # of paris, due in 25 s, and of who was asked in round 4
    assert before
    fake.sites = hospitals()
    state, _ = start(fake.sites, resume=True, fake=fake)
    assert state.round == 10
    assert before <= set(fake._replies)  # fetched by nobody
    # paris was at work when the coordinator died: it gets the model of the round of the resume
    assert fake.sites[4].rounds[0] == 4
    rows = [row for row in table(tmp_path, "sites") if row["site"] == "paris"]
    assert [row["round"] for row in rows] == [str(number) for number in range(1, 11)]
    counted = [(row["round"], row["site"]) for row in table(tmp_path, "sites")]
    assert len(counted) == len(set(counted)) == 40
    for row in rows:  # what counted was sent in round 4 or later
        assert row["status"] != "ok" or int(row["round"]) - int(row["staleness"]) >= 4


def test_after_a_crash_the_models_are_those_of_the_updates_of_the_rows(start, hospitals, tmp_path):
    def dies(content, message):
        raise KeyboardInterrupt

    broken = hospitals()
    broken[1].tricks["train", 3] = dies
    with pytest.raises(KeyboardInterrupt):
        start(broken, buffer=1, max_weight=100)
    state, _ = start(hospitals(), resume=True, buffer=1, rounds=10, max_weight=100)
    models = [0.0]
    for number in range(1, 11):
        (row,) = [
            row
            for row in table(tmp_path, "sites")
            if row["status"] == "ok" and row["round"] == str(number)
        ]
        staleness = int(row["staleness"])
        change = (TARGETS[row["site"]] - models[number - 1 - staleness]) / 2
        models.append(models[-1] + (1 + staleness) ** -0.5 * change)
    np.testing.assert_allclose(state.model["w"], models[-1], rtol=1e-4)


def test_a_federation_that_is_gone_ends_the_run_and_can_be_resumed(start, hospitals, tmp_path):
    sites = hospitals()
    for node in (2, 3, 4):
        sites[node].tricks |= {("train", n): lambda content, message: None for n in range(2, 9)}
    with pytest.raises(FederationError, match="in each of 3 attempts"):
        start(sites, takes={})
    state, _ = start(hospitals(), takes={}, resume=True)
    assert state.round == 10


def test_the_run_ends_when_too_few_sites_still_train(start, hospitals, tmp_path):
    def rests(content, message):
        content.pop("arrays", None)
        return content

    sites = hospitals()
    for site in sites.values():
        site.tricks |= {("train", n): rests for n in range(3, 12)}
    state, _ = start(sites, takes={}, buffer=4)
    assert (state.round, state.stopped, state.validated) == (2, "sites-stopped", 2)
