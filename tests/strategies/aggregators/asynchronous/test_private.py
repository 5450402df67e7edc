"""Asynchronous rounds among real sites in one process: state over skipped rounds, and DP-SGD."""

import csv
import json
from dataclasses import replace

import pytest

from clients.handlers.train import open_site
from clients.leaving import leaving
from primia_flwr.config.load import load_experiment, to_yaml
from primia_flwr.errors import ProtocolError
from primia_flwr.messages.keys import CONFIG, HEADS, LEDGER
from primia_flwr.messages.relay import LINEAGE
from primia_flwr.pipeline.experiment import simulated_sites
from primia_flwr.pipeline.planned_privacy import planned_privacy
from primia_flwr.privacy.ledger.view import read_ledger
from primia_flwr.provisioning.identities import prepare_secure
from tests.clients.handlers.test_answers import config_text, simulated
from tests.strategies.aggregators.asynchronous.slow_grid import SlowGrid
from tests.strategies.aggregators.relay.app_grid import run, sites_of

SHORT = (
    *("aggregation=asynchronous", "aggregation.buffer=2", "federation.min_sites=2"),
    *("federation.rounds=5", "federation.wait_for_sites=0", "federation.round_timeout=1000"),
    *("training.batch_size=8", "training.sync_every_n_batches=1"),
)
PRIVATE = (
    *("privacy=dp_sgd", "model.norm=group", "privacy.expected_batch=8", "privacy.steps=1"),
    *("privacy.epsilon=5", "data.normalisation.kind=fixed"),
)
TAKES = {10: 10.0, 11: 10.0, 12: 35.0}  # site-3 is in rounds 1 and 4 or so only


class Crash(BaseException):
    """The coordinator's process ends."""


def experiment_in(folder, *overrides):
    asked = load_experiment(config_text(folder, *SHORT, *overrides))
    return replace(asked, aggregation=prepare_secure(asked, folder))


def charged(folder, experiment):
    """The rounds that each site was charged for, and its epsilon."""
    found = {}
    for site in experiment.federation.sites:
        with read_ledger(folder / "sites" / site / "privacy") as ledger:
            charges = ledger.charges()
            epsilon = ledger.spent(charges[-1].version)
            found[site] = [charge.instance for charge in charges], epsilon
    return found


def test_each_site_pays_for_the_rounds_that_it_was_in_and_less_than_was_planned(clock, tmp_path):
    asked = experiment_in(tmp_path, *PRIVATE)
    fake = SlowGrid(sites_of(asked), clock, TAKES)
    told = []
    fake.sites[12].tricks["train", 2] = lambda reply, message: told.append(message) or reply
    state = run(asked, fake, tmp_path)
    assert state.round == 5
    for name, array in state.model.items():
        assert state.best[name].tobytes() == array.tobytes()
    begun = {node: [n for at, n, _ in fake.trained if at == node] for node in fake.sites}
    assert len(begun[12]) == 2 < len(begun[10])
    plan = {row["site"]: row["epsilon_by_filter"] for row in planned(asked)}
    found = charged(tmp_path, asked)
    for node, site in zip(fake.sites, asked.federation.sites, strict=True):
        rounds, epsilon = found[site]
        assert rounds == begun[node]
        assert 0 < epsilon <= plan[site] <= 5
    assert found["site-3"][1] < plan["site-3"]
    assert {kind for site in fake.sites.values() for kind in site.seen} == {"query.relay", "train"}
    heads = json.loads((tmp_path / "ledger-heads.json").read_text())
    answers = {head["site"]: head["answers"] for head in heads}
    # site-2's fourth update waited for round 5, whose model it did not get
    assert answers == {"site-1": 5, "site-2": 4, "site-3": 1}
    (message,) = told  # later models bring the heads of the others
    assert "site-1" in message.content[CONFIG][HEADS]


def planned(experiment):
    return planned_privacy(experiment, simulated_sites(experiment), 0)


def test_after_a_crash_the_same_request_costs_nothing_and_another_is_charged(clock, tmp_path):
    asked = experiment_in(tmp_path, *PRIVATE)
    fake = SlowGrid(sites_of(asked), clock, TAKES)
    fake.sites[11].tricks["train", 3] = Crash()
    with pytest.raises(Crash):
        run(asked, fake, tmp_path)
    before = charged(tmp_path, asked)
    assert before["site-1"][0] == [1, 2, 3]  # it had answered when the coordinator died
    again = SlowGrid(sites_of(asked), clock, TAKES)
    state = run(asked, again, tmp_path, resume=True)
    assert state.round == 5
    found = charged(tmp_path, asked)
    assert found["site-1"][0][:4] == [1, 2, 3, 4]  # round 3 once, though asked for twice
    assert found["site-3"][0][:2] == [1, 3]  # at work on round 1 before; then asked with 3's model
    for rounds, epsilon in found.values():
        assert len(rounds) == len(set(rounds))
        assert epsilon <= 5


def test_heads_of_ledgers_that_nobody_can_read_cost_a_site_its_update_alone(clock, tmp_path):
    def spoils(reply, message):
        reply.content[LEDGER][HEADS] = "rubbish"
        return reply

    asked = experiment_in(tmp_path, *PRIVATE, "federation.rounds=1")
    fake = SlowGrid(sites_of(asked), clock, {})
    fake.sites[10].tricks["train", 1] = spoils
    assert run(asked, fake, tmp_path).round == 1
    with (tmp_path / "sites.csv").open() as file:
        found = {row["site"]: row["status"] for row in csv.DictReader(file)}
    assert found == {"site-1": "rejected", "site-2": "ok", "site-3": "ok"}


def test_a_sites_state_is_that_of_the_last_round_that_it_was_in(clock, tmp_path):
    asked = experiment_in(tmp_path, "training.optimizer_state=keep")
    fake = SlowGrid(sites_of(asked), clock, TAKES)
    run(asked, fake, tmp_path)
    slow = [number for node, number, _ in fake.trained if node == 12]
    assert slow[0] == 1 < 2 < slow[1]
    site = open_site(simulated(to_yaml(asked), 2))
    steps = [
        {int(v) for k, v in site.state.load(number).optimizer.items() if k.endswith("/step")}
        for number in slow
    ]
    assert steps[:2] == [{1}, {2}]  # one batch a round: the optimiser has gone on
    assert asked.aggregation.run in str(site.state.folder)


def test_a_run_writes_what_each_round_took(clock, tmp_path):
    asked = experiment_in(tmp_path)
    fake = SlowGrid(sites_of(asked), clock, TAKES)
    state = run(asked, fake, tmp_path)
    with (tmp_path / "sites.csv").open() as file:
        rows = list(csv.DictReader(file))
    good = [row for row in rows if row["status"] == "ok"]
    assert len(good) == 10
    assert {row["staleness"] for row in good if row["site"] == "site-3"} == {"3"}
    assert state.validated == 5
    assert state.validation["n"] == sum(site["val"] for site in state.sites)


@pytest.mark.parametrize(
    ("words", "route", "refused"),
    [
        ((), "query.relay", True),
        ((), "query.secagg", True),
        ((), "evaluate", False),
        (PRIVATE, "query.statistics", True),
        (PRIVATE, "evaluate", True),
        (PRIVATE, "query.relay", False),
    ],
)
def test_nothing_is_answered_that_the_run_does_not_need(words, route, refused, tmp_path):
    table = leaving(experiment_in(tmp_path, *words))
    assert (route not in table.replies) == refused
    if refused:
        with pytest.raises(ProtocolError, match="nothing may leave this site"):
            table.check_asked(route)
    assert LINEAGE not in table.replies["train"]
