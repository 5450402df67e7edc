"""The relay among sites in memory. Each goes half the way from the model that comes to its target.

From 0, with targets 4 (berlin), 8 (london) and 1 (munich), in the order of the list:
0 -> 2 -> 5 -> 3, and in the next cycle 3 -> 3.5 -> 5.75 -> 3.375.
"""

import csv
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Error

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.data import DataConfig, NormalisationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.config.experiment.training import FederationStoppingConfig, TrainingConfig
from primia_flwr.config.load import config_hash
from primia_flwr.errors import CheckpointError, ConfigError, FederationError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.runs.checkpoint import adopt
from strategies.aggregators.relay.cycle import order_of
from strategies.registry import build_aggregator
from strategies.rounds.config import LoopConfig
from strategies.rounds.loop import RoundLoop

NAMES = ["berlin", "london", "munich"]


class Crash(BaseException):
    """The coordinator's process ends."""


def crash(content, message):
    raise Crash


def experiment(*, rounds=2, order="listed", names=NAMES, min_sites=2, name="cyclic"):
    return Experiment(
        strategy=StrategyConfig(name=name, options={"order": order}),
        aggregation=AggregationConfig(name="relay"),
        federation=FederationConfig(
            rounds=rounds, sites=list(names), min_sites=min_sites, round_timeout=1, wait_for_sites=0
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
    """Run a relay's loop, resumed where it is told so."""

    def run(fake, asked=None, *, resume=False, folder=tmp_path, patience=0):
        asked = replace(asked or experiment(), resume=str(folder) if resume else "")
        aggregator = build_aggregator(
            asked, model=model, parameters=["w"], outputs=2, folder=folder
        )
        stopping = FederationStoppingConfig(monitor="accuracy", patience=patience)
        cfg = replace(LoopConfig.of(asked), stopping=stopping)
        loop = RoundLoop(cfg, RosterGrid(fake, asked.federation.sites), aggregator, folder)
        return loop.run(model, resume=resume)

    return run


def rows(folder, name):
    with (folder / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def w(state):
    return state.model["w"].tolist()


def trainings(fake):
    return Counter(
        site.name for site in fake.sites.values() for kind in site.seen if kind == "train"
    )


def test_two_cycles_by_hand(start, sites, make_grid, tmp_path):
    fake = make_grid(sites)
    state = start(fake)
    assert w(state) == [3.375, 3.375]
    assert state.model["bn.running_var"].tolist() == [1.0], "munich's own, not a mean"
    trained = [fake.sites[node].name for node, kind in fake.asked if kind == "train"]
    assert trained == NAMES * 2
    found = rows(tmp_path, "history")
    # The losses that the fakes report are their targets, over 20 images each: (4 + 8 + 1) / 3
    assert [float(row["train_loss"]) for row in found] == [pytest.approx(13 / 3)] * 2
    assert [row["images"] for row in found] == ["60", "60"]
    assert [(row["site"], row["status"]) for row in rows(tmp_path, "sites")] == [
        (name, "ok") for name in NAMES * 2
    ]


def test_a_relay_that_has_ended_goes_on_for_more_cycles(start, sites, make_grid, tmp_path):
    short, longer = experiment(rounds=1), experiment(rounds=2)
    assert w(start(make_grid(sites), short)) == [3.0, 3.0]
    known = {"before": config_hash(short), "after": config_hash(longer)}
    adopt(tmp_path / "checkpoints", **known, stopped="")
    assert w(start(make_grid(sites), longer, resume=True)) == [3.375, 3.375]


def test_the_model_of_a_cycle_is_validated_by_all_sites(start, sites, make_grid, tmp_path):
    for site in sites.values():
        site.right = lambda w: 8 if w[0] == 3.0 else 5
    state = start(make_grid(sites))
    assert [row["val_accuracy"] for row in rows(tmp_path, "history")] == ["0.8", "0.5"]
    assert state.best["w"].tolist() == [3.0, 3.0]
    assert (state.validation["n"], state.best_round) == (30, 1)


def test_a_site_that_is_away_fails_or_sends_rubbish_is_skipped_with_its_row(
    start, sites, make_grid, tmp_path
):
    sites[12].tricks["train", 1] = lambda content, message: Error(code=0, reason="disk full")
    state = start(make_grid(sites), experiment(rounds=1))
    assert w(state) == [1.5, 1.5], "0 -> 2 (berlin) -> 1.5 (munich)"
    by_site = {row["site"]: row for row in rows(tmp_path, "sites")}
    assert by_site["london"]["status"] == "failed"
    assert "disk full" in by_site["london"]["reason"]

    fake = make_grid(sites)
    fake.offline.add(11)
    state = start(fake, experiment(rounds=1))
    assert w(state) == [2.5, 2.5], "0 -> 4 (london) -> 2.5 (munich)"
    assert {row["site"]: row["reason"] for row in rows(tmp_path, "sites")}["berlin"] == "offline"

    def nan(content, message):
        content["arrays"] = message.content["arrays"].__class__()
        return content

    sites[13].always = lambda content, message: (
        nan(content, message) if message.metadata.message_type == "train" else content
    )
    state = start(make_grid(sites), experiment(rounds=1))
    assert w(state) == [5.0, 5.0], "munich's rubbish went nowhere"
    assert {row["site"]: row["status"] for row in rows(tmp_path, "sites")}["munich"] == "rejected"


def test_too_few_good_answers_are_asked_for_again_and_the_good_ones_kept(
    start, sites, make_grid, tmp_path
):
    def fail(content, message):
        return Error(code=0, reason="again")

    sites[12].tricks["train", 1] = sites[13].tricks["train", 1] = fail
    fake = make_grid(sites)
    state = start(fake, experiment(rounds=1))
    assert w(state) == [3.0, 3.0]
    assert trainings(fake) == {"berlin": 1, "london": 2, "munich": 2}
    for site in sites.values():
        site.always = fail
    with pytest.raises(FederationError, match="sites are online"):
        start(make_grid(sites), experiment(rounds=1))


@pytest.mark.parametrize("crashed", [("train", 1), ("train", 2)])
@pytest.mark.parametrize("node", [11, 12, 13])
def test_a_crash_repeats_one_site_at_most(start, sites, make_grid, make_site, node, crashed):
    fake = make_grid(sites)
    sites[node].tricks[crashed] = crash
    with pytest.raises(Crash):
        start(fake)
    before = trainings(fake)
    state = start(fake, resume=True)
    assert w(state) == [3.375, 3.375]
    assert sum(trainings(fake).values()) == 7, before
    assert trainings(fake)[sites[node].name] == 3


def test_a_new_run_does_not_go_on_where_another_one_was(start, sites, make_grid):
    fake = make_grid(sites)
    sites[13].tricks["train", 1] = crash
    with pytest.raises(Crash):
        start(fake)
    assert w(start(fake)) == [3.375, 3.375]
    assert trainings(fake) == {"berlin": 3, "london": 3, "munich": 3}


def test_a_position_that_is_damaged_is_no_position(start, sites, make_grid, tmp_path):
    fake = make_grid(sites)
    sites[13].tricks["train", 1] = crash
    with pytest.raises(Crash):
        start(fake)
    for file in (tmp_path / "checkpoints" / "cycle").rglob("arrays.safetensors"):
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="holds no intact checkpoint"):
        start(fake, resume=True)


def test_the_order_is_listed_or_drawn_anew_for_each_cycle():
    names = [f"site-{number}" for number in range(6)]
    listed = experiment(names=names)
    assert [order_of(listed, cycle) for cycle in (1, 2)] == [names, names]
    drawn = experiment(names=names, order="random")
    orders = [order_of(drawn, cycle) for cycle in range(1, 7)]
    assert all(sorted(order) == names for order in orders)
    assert len({tuple(order) for order in orders}) > 4
    assert orders == [order_of(drawn, cycle) for cycle in range(1, 7)], "the seed says it"
    assert orders != [order_of(replace(drawn, seed=2), cycle) for cycle in range(1, 7)]


def test_the_drawn_order_is_the_one_that_is_run(start, sites, make_grid):
    asked, fake = experiment(order="random", rounds=3), make_grid(sites)
    start(fake, asked)
    trained = [fake.sites[node].name for node, kind in fake.asked if kind == "train"]
    assert trained == [site for cycle in (1, 2, 3) for site in order_of(asked, cycle)]


def test_a_site_that_rests_hands_the_model_on(start, sites, make_grid, tmp_path):
    def rest(content, message):
        del content["arrays"]
        return content

    sites[12].tricks["train", 1] = rest
    state = start(make_grid(sites), experiment(rounds=1))
    assert w(state) == [1.5, 1.5]
    by_site = {row["site"]: row["status"] for row in rows(tmp_path, "sites")}
    assert by_site == {"berlin": "ok", "london": "evaluated", "munich": "ok"}


# --- What cannot be -----------------------------------------------------------------------------


def refused(**values):
    with pytest.raises(ConfigError) as error:
        Experiment(**{"aggregation": AggregationConfig(name="relay"), **values})
    return str(error.value)


def test_one_pass_is_one_round():
    said = refused(strategy=StrategyConfig(name="single"), federation=FederationConfig(rounds=3))
    assert "federation.rounds=3; expected one pass" in said
    assert "set federation.rounds=1 and training.local_epochs=3" in said
    assert experiment(name="single", rounds=1).strategy.name == "single"


def test_a_rule_and_an_aggregation_that_do_not_fit():
    said = refused(strategy=StrategyConfig(name="fedavg"))
    assert "strategy.name=fedavg with aggregation.name=relay" in said
    for name in ("plain", "secure"):
        said = refused(
            strategy=StrategyConfig(name="cyclic"),
            aggregation=AggregationConfig(name=name),
            federation=FederationConfig(min_sites=3),
        )
        assert said.startswith(f"strategy.name=cyclic with aggregation.name={name}")
        assert "set aggregation=relay" in said


@pytest.mark.parametrize(
    ("options", "training", "said"),
    [
        ({"order": "shuffled"}, {}, "strategy.options.order=shuffled; expected one of listed"),
        ({"proportional": True}, {}, "proportional=true with training.sync_every_n_batches=0"),
        ({"seed": 1}, {}, "unknown key strategy.options.seed; expected order, proportional"),
    ],
)
def test_options_that_cannot_be(options, training, said):
    with pytest.raises(ConfigError) as error:
        Experiment(
            strategy=StrategyConfig(name="cyclic", options=options),
            aggregation=AggregationConfig(name="relay"),
            training=TrainingConfig(**training),
        )
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "plain"}, ""),
        ({"name": "relay"}, "Relay: the next site and the coordinator saw each site's model"),
        ({"name": "relay", "sealed": True}, "the coordinator the last model alone"),
        ({"name": "relay", "sealed": True, "reveal": "never"}, "the coordinator no model at all"),
    ],
)
def test_the_report_says_who_saw_the_models(values, said):
    words = AggregationConfig(**values).relay_words
    assert words.endswith(said)
    assert bool(words) == bool(said)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "plain", "sealed": True}, "sealed=true with aggregation.name=plain; expected"),
        ({"name": "secure", "sealed": True}, "expected aggregation=relay"),
        ({"name": "relay", "reveal": "never"}, "reveal=never with aggregation.sealed=false"),
        ({"name": "relay", "reveal": "soon"}, "reveal=soon; expected one of end, never"),
    ],
)
def test_seals_and_ends_that_cannot_be(values, said):
    with pytest.raises(ConfigError, match=said):
        AggregationConfig(**values)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("data.normalisation.kind", {}),
        (
            "training.class_weights",
            {"training": TrainingConfig(class_weights="balanced")},
        ),
    ],
)
def test_a_sealed_relay_asks_no_numbers_of_the_sites(key, words):
    kind = "federated" if not words else "fixed"
    data = DataConfig(normalisation=NormalisationConfig(kind=kind, mean=[0.5], std=[0.25]))
    sealed = AggregationConfig(name="relay", sealed=True)
    cyclic = StrategyConfig(name="cyclic")
    with pytest.raises(ConfigError, match=rf"{key}=.*; expected (fixed|none)"):
        Experiment(strategy=cyclic, aggregation=sealed, data=data, **words)


def test_the_model_is_not_summed_so_it_moves_by_itself(start, sites, make_grid):
    """A relay of one site is that site's training: no other value enters."""
    fake = make_grid({11: sites[11]})
    state = start(fake, experiment(names=["berlin"], min_sites=1, rounds=3))
    np.testing.assert_array_equal(state.model["w"], np.full(2, 3.5, np.float32))
