"""A relay with DP-SGD among real sites in one process: each pays for its own patients."""

import json
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from clients.handlers.first_weights import check_first_weights, check_known_weights
from clients.handlers.train import open_site
from primia_flwr.config.load import load_experiment
from primia_flwr.errors import ConfigError, PolicyRefusal, PrivacyBudgetError
from primia_flwr.messages import keys
from primia_flwr.messages import relay as wire
from primia_flwr.messages.held import held, values_of
from primia_flwr.messages.records import to_arrays
from primia_flwr.models.provenance import arrays_digest
from primia_flwr.pipeline.experiment import simulated_sites
from primia_flwr.pipeline.first_model import first_model
from primia_flwr.pipeline.planned_privacy import planned_privacy
from primia_flwr.privacy.ledger.view import read_ledger
from strategies.aggregators.relay.aggregator import RelayAggregator
from tests.clients.handlers.test_answers import config_text, simulated
from tests.strategies.aggregators.relay.app_grid import experiment_in, run, sites_of

PRIVATE = (
    "privacy=dp_sgd",
    "model.norm=group",
    "privacy.expected_batch=8",
    "privacy.steps=1",
    "privacy.epsilon=5",
    "federation.rounds=2",
    "federation.wait_for_sites=0",
    "federation.round_timeout=1",
)
OPEN = (
    *("training.sync_every_n_batches=1", "training.batch_size=8", "federation.rounds=2"),
    *("federation.wait_for_sites=0", "federation.round_timeout=1"),
)


class Crash(BaseException):
    """The coordinator's process ends."""


def spent(folder, experiment):
    """The epsilon of each site by its ledger, and the rounds that it was charged for."""
    found, rounds = {}, {}
    for site in experiment.federation.sites:
        with read_ledger(folder / "sites" / site / "privacy") as ledger:
            charges = ledger.charges()
            found[site] = ledger.spent(charges[-1].version)
            rounds[site] = [charge.instance for charge in charges]
    return found, rounds


def planned(experiment):
    rows = planned_privacy(experiment, simulated_sites(experiment), 0)
    return {row["site"]: pytest.approx(row["epsilon_by_filter"], abs=1e-9) for row in rows}


def test_epsilon_is_what_the_plan_says_whatever_the_order_and_a_crash(grid_of, tmp_path):
    asked = experiment_in(tmp_path / "listed", *PRIVATE)
    run(asked, grid_of(sites_of(asked)), tmp_path / "listed")
    found, rounds = spent(tmp_path / "listed", asked)
    assert found == planned(asked)
    assert all(0 < value <= 5 for value in found.values())
    assert all(numbers == [1, 2] for numbers in rounds.values())
    heads = json.loads((tmp_path / "listed" / "ledger-heads.json").read_text())
    assert [(head["site"], head["answers"]) for head in heads] == [
        (site, 2) for site in asked.federation.sites
    ]

    other = experiment_in(
        tmp_path / "other", *PRIVATE, "aggregation.sealed=true", "strategy.options.order=random"
    )
    fake = grid_of(sites_of(other))
    fake.sites[11].tricks["train", 2] = Crash()
    with pytest.raises(Crash):
        run(other, fake, tmp_path / "other")
    run(other, fake, tmp_path / "other", resume=True)
    assert spent(tmp_path / "other", other)[0] == planned(other)
    assert spent(tmp_path / "other", other)[1] == rounds


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("data.normalisation.kind=federated", "privacy.statistics_noise=6"), "kind=federated"),
        (("strategy.options.proportional=true", "training.sync_every_n_batches=2"), "proportional"),
        (("privacy=dp_aggregate",), "aggregation.name=relay with privacy.mode=dp_aggregate"),
        (("privacy=dp_sgd_shared",), "aggregation.name=relay with privacy.mode=dp_sgd_shared"),
    ],
)
def test_what_a_private_relay_cannot_be(tmp_path, words, said):
    with pytest.raises(ConfigError, match=said):
        load_experiment(config_text(tmp_path, "strategy=cyclic", "privacy=dp_sgd", *words))


# --- The weights that a deployed site begins with ------------------------------------------------


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """A site as if deployed, the run's first weights, and a model that others made of them."""
    asked = experiment_in(tmp_path_factory.mktemp("first"), *PRIVATE)
    text = next(iter(sites_of(asked).values())).text
    site = replace(open_site(simulated(text)), simulated=False)
    first = values_of(to_arrays(first_model(asked, 3).state_dict()))
    trained = {name: array + 1 for name, array in first.items()}
    return site, first, trained


def message_of(arrays, ancestors, first=None):
    """What the handler gets of the mod: `first` only where its digest is the last ancestor."""
    config = ConfigRecord({keys.ROUND: 1, wire.ANCESTORS: ancestors})
    more = {wire.FIRST: held(first)} if first else {}
    return Message(RecordDict({keys.ARRAYS: held(arrays), keys.CONFIG: config, **more}), 1, "train")


def test_a_private_relay_begins_with_what_came_of_the_first_weights(deployed):
    site, first, trained = deployed
    check_first_weights(site, message_of(trained, ["ab" * 32, arrays_digest(first)]), 1)
    listed = replace(site, initial_weights=("cd" * 32,))
    check_first_weights(listed, message_of(trained, ["cd" * 32]), 1)
    for ancestors in ([], ["ab" * 32]):
        with pytest.raises(PrivacyBudgetError, match="is not what the run's seed gives"):
            check_first_weights(site, message_of(trained, ancestors), 1)


@pytest.mark.parametrize("check", [check_first_weights, check_known_weights])
def test_first_weights_that_another_processor_rounds_otherwise_are_let_in(deployed, check):
    """Of a relay's later sites the digest is another one; the weights themselves come along."""
    site, first, trained = deployed
    site = replace(site, known_weights=True, folder=site.folder / check.__name__)
    rounded = {name: np.nextafter(array, np.float32(2)) for name, array in first.items()}
    ancestors = ["ab" * 32, arrays_digest(rounded)]
    with pytest.raises((PrivacyBudgetError, PolicyRefusal)):
        check(site, message_of(trained, ancestors), 1)
    with pytest.raises((PrivacyBudgetError, PolicyRefusal)):
        check(site, message_of(trained, ancestors, trained), 1)
    check(site, message_of(trained, ancestors, rounded), 1)


def test_a_newcomer_gets_the_first_weights_beside_the_model(grid_of, tmp_path):
    """Over real sites only: a simulated one lets them through."""
    asked = experiment_in(tmp_path, *OPEN)
    fake, sent = grid_of(sites_of(asked)), []
    for site in fake.sites.values():

        def heard(message, answer=site.answer, name=site.name):
            if message.metadata.message_type == "train":
                sent.append((name, wire.FIRST in message.content))
            return answer(message)

        site.answer = heard
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RelayAggregator, "_real_sites", property(lambda self: True))
        run(asked, fake, tmp_path)
    names = ("site-1", "site-2", "site-3")
    later = [(name, False) for name in names]
    assert sent == [("site-1", False), ("site-2", True), ("site-3", True), *later]
