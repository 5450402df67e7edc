import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from primia_flwr.config.experiment.aggregation import AggregationConfig
from strategies.aggregators.fixed_point import FixedPointAggregator
from strategies.aggregators.plain import PlainAggregator
from tests.strategies.aggregators.test_plain import NAMES, build, introduced, train

# Three sites, clip 32, w_max 10: step = 32 / ((2^31 - 1) // 3); of three weights that sum to 4
# the mean is off by at most 3/2 * step * 10 / 4 = 1.7e-7.
FIXED = AggregationConfig(max_weight=10)
BOUND = 1.5 * 32 / ((2**31 - 1) // 3) * 10 / 4


def fixed(model, name="fedavg", **config):
    return build(model, name, **{"aggregation": FIXED, **config})


@pytest.fixture
def sites(make_site):
    """From w = 0 half the way to the targets: 1, 2 and 6."""
    return {
        11: make_site("munich", target=2.0, weight=1.0, var=1.0),
        12: make_site("berlin", target=4.0, weight=1.0, var=3.0),
        13: make_site("london", target=12.0, weight=2.0, var=5.0),
    }


@pytest.mark.parametrize(
    "name", ["fedavg", "fedavgm", "fedprox", "fedadagrad", "fedadam", "fedyogi"]
)
def test_a_mean_is_computed_in_fixed_point_unless_told_otherwise(name, model):
    assert isinstance(fixed(model, name), FixedPointAggregator)
    assert type(build(model, name)) is PlainAggregator


@pytest.mark.parametrize("name", ["bulyan", "fedmedian", "fedtrimmedavg", "krum", "multikrum"])
def test_rules_over_single_updates_stay_in_floating_point(name, model):
    assert type(fixed(model, name)) is PlainAggregator


def test_the_mean_lies_within_the_bound(sites, make_grid, model):
    outcome, _ = train(fixed(model), introduced(make_grid(sites)), model)
    # (1*1 + 1*2 + 2*6) / 4, and of the variances (1*1 + 1*3 + 2*5) / 4
    np.testing.assert_allclose(outcome.arrays["w"], 3.75, rtol=0, atol=BOUND + 2**-22)
    np.testing.assert_allclose(outcome.arrays["bn.running_var"], 3.5, rtol=0, atol=BOUND + 2**-22)
    assert outcome.count("ok") == 3


@given(
    weights=st.lists(st.integers(1, 10), min_size=3, max_size=3),
    targets=st.lists(st.floats(-60, 60, width=32), min_size=3, max_size=3),
    order=st.permutations(range(3)),
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_neither_the_order_nor_who_is_who_changes_a_bit(
    weights, targets, order, make_site, make_grid, model
):
    def result(names):
        sites = {
            node: make_site(name, target=target, weight=float(weight), var=abs(target) / 2)
            for node, (name, target, weight) in enumerate(zip(names, targets, weights, strict=True))
        }
        outcome, _ = train(fixed(model), introduced(make_grid(sites)), model)
        return b"".join(array.tobytes() for array in outcome.arrays.values())

    assert result(NAMES) == result([NAMES[i] for i in order])


def test_an_update_beyond_clip_is_left_out_with_the_keys_to_change(sites, make_grid, model):
    sites[13].target = 66.0  # an update of 33
    outcome, _ = train(fixed(model), introduced(make_grid(sites)), model)
    (london,) = [row for row in outcome.rows if row.site == "london"]
    assert london.status == "diverged"
    assert "is 33; expected at most clip=32" in london.reason
    assert "aggregation.clip" in london.reason
    np.testing.assert_allclose(outcome.arrays["w"], 1.5, rtol=0, atol=3 * BOUND)  # (1 + 2) / 2


def test_an_update_beyond_clip_is_clipped_where_the_run_says_so(sites, make_grid, model):
    sites[13].target = 66.0
    clips = AggregationConfig(max_weight=10, overflow="clip")
    outcome, _ = train(fixed(model, aggregation=clips), introduced(make_grid(sites)), model)
    np.testing.assert_allclose(outcome.arrays["w"], (1 + 2 + 2 * 32) / 4, rtol=1e-6)


@pytest.mark.parametrize(("weight", "fragment"), [(11.0, "max_weight=10"), (1.5, "a whole number")])
def test_a_weight_that_has_no_place_on_the_scale_is_left_out(
    weight, fragment, sites, make_grid, model
):
    sites[13].weight = weight
    outcome, _ = train(fixed(model), introduced(make_grid(sites)), model)
    (london,) = [row for row in outcome.rows if row.site == "london"]
    assert (london.status, outcome.count("ok")) == ("rejected", 2)
    assert fragment in london.reason


def test_equal_weights_lose_nothing_to_the_largest_weight(make_site, make_grid, model):
    sites = {n: make_site(NAMES[n], target=2.0 * n, weight=1.0) for n in range(3)}
    largest = AggregationConfig()  # max_weight 10,000
    aggregator = fixed(model, weighting="equal", aggregation=largest)
    outcome, _ = train(aggregator, introduced(make_grid(sites)), model)
    # (0 + 1 + 2) / 3, off by at most 3/2 * step / 3
    np.testing.assert_allclose(outcome.arrays["w"], 1.0, rtol=0, atol=3e-8 + 2**-24)


def test_what_a_given_up_round_left_is_not_added_to_the_next(sites, make_grid, model):
    aggregator, grid = fixed(model), introduced(make_grid(sites))
    assert train(aggregator, grid, model, min_updates=4)[0].arrays is None
    outcome, _ = train(aggregator, grid, model)
    np.testing.assert_allclose(outcome.arrays["w"], 3.75, rtol=0, atol=BOUND + 2**-22)
