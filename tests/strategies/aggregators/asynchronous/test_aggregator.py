import numpy as np
import pytest
from flwr.app import ConfigRecord, Error
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages.buffered import discount
from strategies.aggregators.aggregator import Request
from strategies.aggregators.asynchronous.aggregator import AsynchronousAggregator
from strategies.registry import build_aggregator
from tests.strategies.aggregators.asynchronous.slow_grid import SlowGrid

NAMES = ["berlin", "london", "munich"]
BERLIN, LONDON, MUNICH = 1, 2, 3
# A fixed-point step is 32 / ((2^31 - 1) // 3); of weights that sum to at least 1, each of 10 at
# most, a mean is off by at most 3/2 steps times 10.
BOUND = 1.5 * 32 / ((2**31 - 1) // 3) * 10


def build(model, *, rule="fedavg", weighting="images", name="asynchronous", **values):
    experiment = Experiment(
        federation=FederationConfig(sites=NAMES, min_sites=1),
        strategy=StrategyConfig(name=rule, weighting=weighting),
        aggregation=AggregationConfig(name=name, max_weight=10, **values),
    )
    return build_aggregator(experiment, model=model, parameters=["w"], outputs=2)


class Federation:
    """Three sites whose w goes half the way to their targets, and the rounds over them."""

    def __init__(self, make_site, clock, takes, model, aggregator, targets=(2.0, 4.0, 12.0)):
        self.sites = {
            node: make_site(name, target=target, weight=1.0)
            for node, (name, target) in enumerate(zip(NAMES, targets, strict=True), 1)
        }
        self.fake = SlowGrid(self.sites, clock, takes)
        self.grid = RosterGrid(self.fake, NAMES)
        for node, site in self.sites.items():
            self.grid.introduce(node, site.name)
        self.grid.select()
        self.aggregator, self.model, self.number = aggregator, model, 0
        self.clock, self.rows = clock, []

    def round(self, *, timeout=1000.0, min_updates=1):
        self.number += 1
        config = ConfigRecord({"pixel-mean": [0.5]})
        request = Request(self.number, self.model, config, timeout, min_updates)
        outcome = self.aggregator.train(request, self.grid, self.rows.append)
        if outcome.arrays is None:
            self.number -= 1
        else:
            self.model = outcome.arrays
        return outcome


@pytest.fixture
def federation(make_site, clock, model):
    def begin(takes, targets=(2.0, 4.0, 12.0), **values):
        return Federation(make_site, clock, takes, model, build(model, **values), targets)

    return begin


def told(outcome):
    return {row.site: (row.status, row.staleness) for row in outcome.rows}


@pytest.mark.parametrize(
    ("staleness", "power", "expected"),
    [(0, 0.5, 1.0), (3, 0.5, 0.5), (8, 0.5, 1 / 3), (1, 1.0, 0.5), (99, 0.0, 1.0)],
)
def test_a_stale_update_counts_less(staleness, power, expected):
    assert discount(staleness, power) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rule", ["fedavg", "fedadam", "fedyogi", "fedadagrad", "fedavgm"])
@given(
    targets=st.lists(st.floats(-60, 60, width=32), min_size=3, max_size=3),
    weights=st.lists(st.integers(1, 10), min_size=3, max_size=3),
)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_where_nobody_is_stale_it_is_plain_averaging_bit_for_bit(
    rule, targets, weights, make_site, clock, model
):
    found = []
    for more in ({"buffer": 3}, {"name": "plain"}):
        aggregator = build(model, rule=rule, **more)
        one = Federation(make_site, clock, {}, dict(model), aggregator, targets)
        for node, weight in enumerate(weights, 1):
            one.sites[node].weight, one.sites[node].var = float(weight), abs(targets[node - 1]) / 2
        models = [one.round().arrays for _ in range(3)]
        found.append([{n: a.tobytes() for n, a in arrays.items()} for arrays in models])
    assert found[0] == found[1]


def test_fedasync_by_hand(federation):
    # berlin takes 10 s, london 11 s, munich 100 s; a round takes one update, half of which counts
    run = federation({BERLIN: 10, LONDON: 11, MUNICH: 100}, buffer=1, mixing=0.5)
    first = run.round()  # berlin: from 0 half the way to 2, of which a half
    np.testing.assert_allclose(first.arrays["w"], 0.5, atol=BOUND)
    assert told(first) == {
        "berlin": ("ok", 0), "london": ("busy", None), "munich": ("busy", None)
    }  # fmt: skip
    second = run.round()  # london: from 0 half the way to 4, one round old
    np.testing.assert_allclose(second.arrays["w"], 0.5 + 0.5 * 2 * 2**-0.5, atol=BOUND)
    assert told(second)["london"] == ("ok", 1)
    third = run.round()  # berlin again: it got the model of round 2, w = 0.5
    assert told(third)["berlin"] == ("ok", 1)
    expected = 0.5 + 2**-0.5 + 0.5 * (2 - 0.5) / 2 * 2**-0.5
    np.testing.assert_allclose(third.arrays["w"], expected, atol=BOUND)
    assert [node for node, number, _ in run.fake.trained if number == 3] == [LONDON]


def test_fedbuff_by_hand(federation):
    run = federation({BERLIN: 10, LONDON: 10, MUNICH: 35}, buffer=2, staleness_power=0.5)
    for _ in range(3):  # berlin and london, at about 10, 20 and 30 seconds
        both = run.round()
        assert told(both) == {
            "berlin": ("ok", 0), "london": ("ok", 0), "munich": ("busy", None)
        }  # fmt: skip
    # from 0 half the way to the mean target 3, three times: 1.5, 2.25, 2.625
    np.testing.assert_allclose(run.model["w"], 2.625, rtol=1e-6)
    fourth = run.round()  # munich comes first: 6, three rounds old, so a half; then berlin
    assert told(fourth) == {
        "berlin": ("ok", 0), "london": ("busy", None), "munich": ("ok", 3)
    }  # fmt: skip
    berlin = (2 - 2.625) / 2
    np.testing.assert_allclose(fourth.arrays["w"], 2.625 + (berlin + 0.5 * 6) / 2, rtol=1e-6)
    assert run.clock.seconds == pytest.approx(40, abs=4)  # looks are a second apart at most


def test_the_others_do_not_wait_for_a_slow_site(federation):
    run = federation({BERLIN: 10, LONDON: 10, MUNICH: 1000}, buffer=2)
    for _ in range(20):
        run.round()
    assert run.clock.seconds < 250
    assert len([node for node, _, _ in run.fake.trained if node == MUNICH]) == 1


def test_what_comes_at_once_counts_in_the_rounds_to_come(federation):
    run = federation({}, buffer=1)
    first, second, third = (run.round() for _ in range(3))
    assert told(first)["berlin"] == ("ok", 0)
    waits = {row.site: row.reason for row in first.rows if row.status == "busy"}
    assert waits == dict.fromkeys(NAMES[1:], "its update waits for round 2")
    assert told(second)["london"] == ("ok", 1)
    assert told(third)["munich"] == ("ok", 2)
    assert [number for _, number, _ in run.fake.trained] == [1, 1, 1, 2, 3]
    # a site whose update waits is not asked, so no round takes two updates of one site
    assert [row.site for row in run.rows] == ["berlin", "london", "munich"]


def test_too_old_an_update_is_left_out_and_says_so(federation):
    run = federation({BERLIN: 10, LONDON: 10, MUNICH: 35}, buffer=2, max_staleness=2)
    for _ in range(3):
        run.round()
    fourth = run.round()
    (munich,) = [row for row in fourth.rows if row.site == "munich"]
    assert (munich.round, munich.status, munich.staleness) == (4, "late", 3)
    assert munich.reason == "its model is 3 rounds old; aggregation.max_staleness=2"
    np.testing.assert_allclose(fourth.arrays["w"], 2.8125, rtol=1e-6)  # of berlin and london
    run.round()
    assert (MUNICH, 5) in [(node, number) for node, number, _ in run.fake.trained]


def test_a_straggler_times_out_against_its_own_sending(federation):
    run = federation({BERLIN: 10, LONDON: 10, MUNICH: 1000}, buffer=2)
    statuses = [told(run.round(timeout=25.0))["munich"][0] for _ in range(4)]
    assert statuses == ["busy", "busy", "late", "busy"]  # sent at 0 s, given up at 25 s
    begun = [number for node, number, _ in run.fake.trained if node == MUNICH]
    assert begun == [1, 4]
    (late,) = [row for row in run.rows if row.status == "late"]
    assert (late.round, late.reason) == (3, "no answer within 25 s")


def test_its_late_answer_is_no_answer_to_the_next_message(federation):
    run = federation({BERLIN: 10, LONDON: 10, MUNICH: 30}, buffer=2)
    for _ in range(8):
        outcome = run.round(timeout=25.0)
        assert told(outcome)["munich"][0] in ("busy", "late")
    # it answers each message after another, always later than 25 s: at 30, 60, 90 s


def test_one_site_that_fails_costs_the_others_nothing(federation):
    run = federation({}, buffer=2)
    run.sites[MUNICH].always = lambda content, message: Error(0, "no image") if (
        "arrays" in content) else content  # fmt: skip
    for _ in range(3):
        outcome = run.round()
        assert told(outcome) == {
            "berlin": ("ok", 0), "london": ("ok", 0), "munich": ("failed", None)
        }  # fmt: skip
    np.testing.assert_allclose(run.model["w"], 2.625, rtol=1e-6)


def test_a_round_whose_sites_are_too_few_for_the_buffer_takes_what_it_needs(federation):
    def dead(content, message):
        return Error(0, "dead") if "arrays" in content else content

    run = federation({}, buffer=3)
    run.sites[MUNICH].always = dead
    outcome = run.round(min_updates=2)
    np.testing.assert_allclose(outcome.arrays["w"], 1.5, rtol=1e-6)
    run.sites[LONDON].always = dead
    assert run.round(min_updates=2).arrays is None  # berlin's update waits
    again = run.round(min_updates=2)
    assert again.arrays is None
    assert told(again)["berlin"] == ("busy", None)
    run.sites[LONDON].always = None
    third = run.round(min_updates=2)
    assert told(third) == {"berlin": ("ok", 0), "london": ("ok", 0), "munich": ("failed", None)}
    assert run.sites[BERLIN].rounds == [1, 2]  # asked once for round 2, in three attempts


def test_a_resting_site_validates_and_is_counted(federation):
    def rests(content, message):
        content.pop("arrays", None)
        return content

    run = federation({}, buffer=2)
    run.sites[MUNICH].always = rests
    outcome = run.round()
    assert (outcome.count("evaluated"), outcome.resting) == (1, 1)
    assert outcome.validation is None  # of which model depends on when a site was idle


def test_a_round_counts_bytes_images_losses_and_times(federation):
    run = federation({BERLIN: 10, LONDON: 10, MUNICH: 35}, buffer=2)
    first = run.round()
    assert first.bytes_down == 3 * (8 + 4)
    assert first.bytes_up == 2 * (8 + 4 + 2 * 128)  # not packed: with their headers
    assert first.images == pytest.approx(40)
    assert first.train_loss == (2 + 4) / 2
    assert first.training_seconds == pytest.approx(run.clock.seconds)  # munich was at work
    second = run.round()
    assert second.bytes_down == 2 * (8 + 4)


def test_an_update_that_cannot_be_is_left_out(federation):
    run = federation({}, buffer=3, targets=(2.0, 4.0, 100.0))  # munich: 50 is beyond clip=32
    outcome = run.round()
    assert told(outcome)["munich"] == ("diverged", None)
    np.testing.assert_allclose(outcome.arrays["w"], 1.5, rtol=1e-6)


@given(
    targets=st.lists(st.floats(-30, 30, width=32), min_size=3, max_size=3),
    weights=st.lists(st.integers(1, 10), min_size=3, max_size=3),
    takes=st.lists(st.integers(1, 60), min_size=3, max_size=3),
    buffer=st.integers(1, 3),
    mixing=st.floats(0.1, 1.0),
    power=st.floats(0.0, 2.0),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_each_round_is_the_discounted_mean_of_what_it_took(
    targets, weights, takes, buffer, mixing, power, make_site, clock, model
):
    aggregator = build(model, buffer=buffer, mixing=mixing, staleness_power=power)
    run = Federation(make_site, clock, dict(enumerate(takes, 1)), dict(model), aggregator, targets)
    for node, weight in enumerate(weights, 1):
        run.sites[node].weight = float(weight)
    models = [float(model["w"][0])]
    for number in range(1, 7):
        outcome = run.round()
        taken = [row for row in outcome.rows if row.status == "ok"]
        assert len(taken) == buffer
        change = total = 0.0
        for row in taken:
            site = NAMES.index(row.site)
            got = models[number - 1 - row.staleness]
            change += weights[site] * (1 + row.staleness) ** -power * (targets[site] - got) / 2
            total += weights[site]
        expected = models[-1] + mixing * change / total
        assert float(outcome.arrays["w"][0]) == pytest.approx(expected, rel=1e-5, abs=1e-5)
        models.append(float(outcome.arrays["w"][0]))


def test_the_registry_builds_it_for_the_choice(model):
    assert type(build(model)) is AsynchronousAggregator
