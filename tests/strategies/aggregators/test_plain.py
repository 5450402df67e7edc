import numpy as np
import pytest
from flwr.app import ConfigRecord, Error
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.config.rows import RULES
from primia_flwr.config.rules import Need
from primia_flwr.errors import DivergenceError, ProtocolError
from primia_flwr.flower.roster_grid import RosterGrid
from strategies.aggregators.aggregator import Request
from strategies.aggregators.exchange import covered
from strategies.registry import build_aggregator

NAMES = ["berlin", "london", "munich"]
FLOAT = AggregationConfig(float_mean=True)


def build(model, name="fedavg", *, weighting="images", aggregation=FLOAT, **options):
    least = {"multikrum": 2, "krum": 3, "bulyan": 3}.get(name, 1)
    federation = FederationConfig(sites=NAMES, min_sites=least)
    experiment = Experiment(
        federation=federation,
        strategy=StrategyConfig(name=name, weighting=weighting, options=options),
        aggregation=aggregation,
        training=TrainingConfig(proximal_mu=0.1 if name == "fedprox" else 0.0),
    )
    return build_aggregator(experiment, model=model, parameters=["w"], outputs=2)


def introduced(fake):
    grid = RosterGrid(fake, NAMES)
    for node, site in fake.sites.items():
        grid.introduce(node, site.name)
    grid.select()
    return grid


def request(model, timeout=0.02, **values):
    return Request(1, model, ConfigRecord({"pixel-mean": [0.5]}), timeout, **values)


def train(aggregator, grid, model, **values):
    rows = []
    return aggregator.train(request(model, **values), grid, rows.append), rows


@pytest.fixture
def sites(make_site):
    """From w = 0 half the way to the targets: 1, 2 and 6."""
    return {
        11: make_site("munich", target=2.0, weight=1.0, var=1.0),
        12: make_site("berlin", target=4.0, weight=1.0, var=3.0),
        13: make_site("london", target=12.0, weight=2.0, var=5.0),
    }


# Adam's first step, w = 0, mean update d = (1 + 2 + 2*6)/4 = 3.75: m = 0.1 d, v = 0.01 d^2,
# rate = 0.1 sqrt(1 - 0.99^2)/(1 - 0.9^2), w = rate m/(sqrt(v) + 0.001)
_RATE = 0.1 * np.sqrt(1 - 0.99**2) / (1 - 0.9**2)
ADAM = _RATE * 0.375 / (0.375 + 0.001)
YOGI = 0.1 * 0.375 / (0.375 + 0.001)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fedavg", 3.75),
        ("fedprox", 3.75),
        ("fedadam", ADAM),
        ("fedyogi", YOGI),
        ("fedavgm", 3.75),  # momentum begins at 0
        ("fedadagrad", 0.1 * 3.75 / (3.75 + 0.001)),  # v = d^2
        ("fedmedian", 2.0),
        ("fedtrimmedavg", 3.0),  # 0.2 * 3 sites: nobody is cut, and all count alike
        ("multikrum", 1.5),  # of the two that are nearest to each other
        ("bulyan", 3.0),  # no one may lie: the mean of all, alike
        ("krum", 2.0),  # 1 and 2 are nearest to each other; the first of the tie by name
    ],
)
def test_each_strategy_gets_the_parameters_and_the_buffers_are_the_weighted_mean(
    name, expected, sites, make_grid, model
):
    outcome, _ = train(build(model, name), introduced(make_grid(sites)), model)
    np.testing.assert_allclose(outcome.arrays["w"], expected, rtol=1e-6)
    # (1*1 + 1*3 + 2*5) / 4 in every strategy
    assert outcome.arrays["bn.running_var"].tolist() == [3.5]
    assert {array.dtype for array in outcome.arrays.values()} == {np.dtype("float32")}
    assert list(outcome.arrays) == list(model)


# x = 0, D = -1, -2 and -6 in two numbers, w = 1, 1 and 2, L = 1, F = 0.5 but where said
@pytest.mark.parametrize(
    ("q", "london_is_right", "expected"),
    [
        (0.0, 5, 15 / 4),  # the weighted mean
        (1.0, 5, 0.5 * 15 / ((2 + 0.5) + (8 + 0.5) + 2 * (72 + 0.5))),
        (1.0, 10, 0.5 * 3 / ((2 + 0.5) + (8 + 0.5) + 2 * 72)),  # its loss is 0
        (2.0, 5, 0.25 * 15 / ((2 + 0.25) + (8 + 0.25) + 2 * (72 + 0.25))),
    ],
)
def test_a_site_with_a_high_loss_counts_for_more(
    q, london_is_right, expected, sites, make_grid, model
):
    sites[13].right = lambda w: london_is_right
    rule = build(model, "qfedavg", q=q, curvature=1.0)
    outcome, _ = train(rule, introduced(make_grid(sites)), model)
    np.testing.assert_allclose(outcome.arrays["w"], expected, rtol=1e-6)
    assert outcome.arrays["bn.running_var"].tolist() == [3.5]


def test_without_a_loss_of_its_own_a_site_has_no_part_in_fairness(sites, make_grid, model):
    def silent(content, message):
        for key in [key for key in content["metrics"] if key.startswith("incoming")]:
            del content["metrics"][key]
        return content

    sites[13].always = lambda c, m: silent(c, m) if "arrays" in c else c
    with pytest.raises(ProtocolError, match=r"loss is nan.*data.val_fraction"):
        train(build(model, "qfedavg", curvature=1.0), introduced(make_grid(sites)), model)


@pytest.mark.parametrize("name", ["fedavg", "fedadam", "fedmedian"])
@pytest.mark.parametrize("aggregation", [FLOAT, AggregationConfig()], ids=["float", "fixed"])
def test_what_is_not_trained_goes_down_and_stays(
    name, aggregation, sites, make_grid, make_site, model
):
    expected, _ = train(
        build(model, name, aggregation=aggregation), introduced(make_grid(sites)), model
    )
    whole = {"stem": np.full(2, 7.0, np.float32), **model}
    fake = make_grid(sites)
    outcome, _ = train(build(model, name, aggregation=aggregation), introduced(fake), whole)
    assert list(outcome.arrays) == ["stem", "w", "bn.running_var"]
    assert outcome.arrays["stem"].tolist() == [7.0, 7.0]
    for array in model:
        np.testing.assert_array_equal(outcome.arrays[array], expected.arrays[array])


def test_the_rules_are_the_files_of_the_folder():
    mean = ["fedadagrad", "fedadam", "fedavg", "fedavgm", "fedprox", "fedyogi", "scaffold"]
    each = ["bulyan", "fedmedian", "fedtrimmedavg", "krum", "multikrum", "qfedavg"]
    one = ["cyclic", "ensemble", "single"]
    assert list(RULES) == sorted(mean + each + one)
    assert [n for n in RULES if RULES[n].needs is Need.MEAN] == mean


def test_a_server_optimiser_never_makes_a_variance_negative(make_site, make_grid, model):
    sites = {1: make_site("munich", var=1e-6), 2: make_site("berlin", var=1e-6)}
    model["bn.running_var"] = np.array([100.0], dtype=np.float32)
    aggregator = build(model, "fedadam", server_learning_rate=10.0)
    outcome, _ = train(aggregator, introduced(make_grid(sites)), model)
    assert outcome.arrays["bn.running_var"].tolist() == [np.float32(1e-6)]


def test_the_whole_model_and_the_proximal_term_travel_down(sites, make_grid, model):
    aggregator, seen = build(model, "fedprox"), []
    sites[11].always = lambda content, message: seen.append(message) or content
    train(aggregator, introduced(make_grid(sites)), model)
    (message,) = seen
    assert set(message.content["arrays"]) == set(model)
    config = message.content["config"]
    assert (config["server-round"], config["proximal-mu"]) == (1, 0.1)
    assert config["pixel-mean"] == [0.5]
    assert message.metadata.group_id == "1"
    assert message.metadata.ttl < 1000


def test_the_outcome_counts_losses_bytes_and_validation(sites, make_grid, model):
    outcome, rows = train(build(model), introduced(make_grid(sites)), model)
    assert [row.site for row in outcome.rows] == NAMES
    assert sorted(row.site for row in rows) == NAMES
    # (4*1 + 12*2 + 2*1) / 4
    assert outcome.train_loss == 7.5
    # two and one float32, each with a .npy header of 128 bytes
    assert outcome.bytes_down == 3 * (8 + 4)
    assert outcome.bytes_up == 3 * (8 + 4 + 2 * 128)  # not packed: with their headers
    assert outcome.validation.num_examples == 30
    assert outcome.validation.counts["confusion"].tolist() == [6, 0, 15, 9]
    assert outcome.images == pytest.approx(60)


@given(
    weights=st.lists(st.floats(1, 1e7), min_size=2, max_size=3),
    targets=st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3),
    order=st.permutations(range(3)),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_order_of_the_replies_changes_no_bit(
    weights, targets, order, make_site, make_grid, model
):
    def result(arrange, nodes):
        sites = {
            node: make_site(name, target=target, weight=weight, var=abs(target))
            for node, name, target, weight in zip(nodes, NAMES, targets, weights, strict=False)
        }
        fake = make_grid(sites)
        fake.order = arrange
        outcome, _ = train(build(model, "fedadam"), introduced(fake), model)
        return b"".join(array.tobytes() for array in outcome.arrays.values())

    def permuted(replies):
        return [replies[i] for i in order if i < len(replies)]

    assert result(list, [1, 2, 3]) == result(permuted, [30, 10, 20])


def test_too_few_updates_leave_the_strategy_untouched(sites, make_grid, model):
    sites[11].always = lambda content, message: Error(2, "broken")
    aggregator = build(model, "fedadam")
    outcome, _ = train(aggregator, introduced(make_grid(sites)), model, min_updates=3)
    assert outcome.arrays is None
    assert outcome.count("ok") == 2
    assert aggregator.state() == {}


def test_silence_and_a_lost_node_have_their_rows(sites, make_grid, model):
    sites[11].always = lambda content, message: None
    fake = make_grid(sites)
    grid = introduced(fake)
    fake.offline.add(12)
    outcome, _ = train(build(model), grid, model)
    reasons = {row.site: (row.status, row.reason) for row in outcome.rows}
    assert reasons["munich"] == ("late", "no answer within 0.02 s")
    assert reasons["berlin"] == ("failed", "the message could not be sent")
    assert reasons["london"] == ("ok", "")
    np.testing.assert_array_equal(outcome.arrays["w"], [6.0, 6.0])


def test_the_state_of_a_server_optimiser_survives(sites, make_grid, model):
    one, other = build(model, "fedyogi"), build(model, "fedyogi")
    grid = introduced(make_grid(sites))
    first = train(one, grid, model)[0].arrays
    state = one.state()
    assert sorted(state) == ["m_t/w", "v_t/w"]
    np.testing.assert_allclose(state["m_t/w"], 0.375, rtol=1e-6)
    other.load_state(state)
    again = [train(aggregator, grid, first)[0].arrays["w"].tobytes() for aggregator in (one, other)]
    assert again[0] == again[1]


def test_momentum_goes_on_where_the_mean_stands_still(make_site, make_grid, model):
    """From 0 the mean moves by 2; from 2 it moves by 1, and 0.5 of the 2 is taken again."""
    sites = {node: make_site(name, target=4.0) for node, name in enumerate(NAMES)}
    aggregator, grid = build(model, "fedavgm", server_momentum=0.5), introduced(make_grid(sites))
    first = train(aggregator, grid, model)[0].arrays
    assert first["w"].tolist() == [2.0, 2.0]
    second = train(aggregator, grid, first)[0].arrays
    assert second["w"].tolist() == [4.0, 4.0]
    assert aggregator.state()["m_t/w"].tolist() == [2.0, 2.0]


def test_bulyan_stands_against_one_that_lies_in_one_number(make_grid, make_site, model):
    names = [f"site-{n}" for n in range(7)]
    sites = {n: make_site(name, target=2.0 + 0.2 * n) for n, name in enumerate(names)}
    sites[6] = make_site("site-6", target=1e6)
    federation = FederationConfig(sites=names, min_sites=7)
    experiment = Experiment(
        federation=federation,
        strategy=StrategyConfig(name="bulyan", options={"num_malicious": 1}),
        aggregation=FLOAT,
    )
    aggregator = build_aggregator(experiment, model=model, parameters=["w"], outputs=2)
    grid = RosterGrid(make_grid(sites), names)
    for node, name in enumerate(names):
        grid.introduce(node, name)
    grid.select()
    outcome, _ = train(aggregator, grid, model)
    # Updates 1.0 to 1.5 are left; of the five chosen the three nearest to their median count.
    assert 1.0 <= outcome.arrays["w"][0] <= 1.5


def test_a_model_that_is_not_finite_ends_the_run(make_site, make_grid, model):
    sites = {1: make_site("munich"), 2: make_site("berlin")}
    aggregator = build(model, "fedadam", server_learning_rate=1e39)
    with pytest.raises(DivergenceError, match="made 'w' NaN or infinite"):
        train(aggregator, introduced(make_grid(sites)), model)


def test_evaluation_asks_for_the_verdict_only(sites, make_grid, model):
    outcome = build(model).evaluate(request(model), introduced(make_grid(sites)), lambda row: None)
    assert outcome.arrays is None
    assert outcome.count() == outcome.count("evaluated") == 3
    assert outcome.validation.figures()["accuracy"] == 0.5
    assert sites[11].seen == ["evaluate"]


@pytest.mark.parametrize(
    ("spans", "length"),
    [([], 0.0), ([(0, 2), (1, 3)], 3.0), ([(5, 6), (0, 2)], 3.0), ([(0, 9), (1, 2), (3, 4)], 9.0)],
)
def test_the_union_of_time_spans(spans, length):
    assert covered(spans) == length
