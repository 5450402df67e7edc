"""Who votes in an ensemble: weights by hand, and what cannot be."""

import pytest

from primia_flwr.errors import ProtocolError
from primia_flwr.models.votes import Votes, by_rank

SIZES = {"a": 10.0, "b": 20.0, "c": 30.0, "d": 40.0}


def test_ranks_times_sizes_and_nothing_below_the_median():
    """Each judge ranks the other three: 1/3, 2/3, 1. d's model is the worst at all sites.

    a: at b, c, d first, first, second -> (1 + 1 + 2/3) / 3 = 8/9.
    b: at a, c, d first, second, first -> 8/9. c: at a, b, d second, second, third -> 5/9.
    d: third at a, b, c -> 1/3. The median of 8/9, 8/9, 5/9, 1/3 is 13/18: c and d have no vote.
    """
    scores = {
        "a": {"a": 0.0, "b": 0.9, "c": 0.9, "d": 0.7},
        "b": {"a": 0.9, "b": 0.0, "c": 0.8, "d": 0.8},
        "c": {"a": 0.8, "b": 0.8, "c": 1.0, "d": 0.6},
        "d": {"a": 0.1, "b": 0.1, "c": 0.1, "d": 1.0},
    }
    found = by_rank(scores, SIZES)
    assert found == {"a": pytest.approx(80 / 9), "b": pytest.approx(160 / 9), "c": 0.0, "d": 0.0}
    votes = Votes.of("classification", "insulearn", found)
    assert votes.members == ("a", "b", "c", "d")
    assert votes.weights == (pytest.approx(1 / 3), pytest.approx(2 / 3), 0.0, 0.0)


def test_a_sites_verdict_on_its_own_model_counts_nothing():
    scores = {
        m: dict.fromkeys("abcd", 0.5) | {m: own}
        for m, own in zip("abcd", (1, 0, 1, 0), strict=True)
    }
    assert by_rank(scores, dict.fromkeys("abcd", 6.0)) == dict.fromkeys("abcd", 6 * 2 / 3)


def test_equal_models_share_their_ranks():
    scores = {"a": {"b": 0.1, "c": 0.2}, "b": {"a": 0.3, "c": 0.2}, "c": {"a": 0.3, "b": 0.4}}
    # at a: b and c equal, 3/4 each; at b: a 1/2, c 1; at c: a and b 3/4 each
    # a: (1/2 + 3/4) / 2 = 5/8, b: 3/4, c: 7/8; the median is 3/4
    found = by_rank(scores, dict.fromkeys("abc", 8.0))
    assert found == {"a": 0.0, "b": 6.0, "c": 7.0}


def test_a_model_that_nobody_else_has_judged_has_no_rank():
    with pytest.raises(ProtocolError, match="no other site has judged the model of a"):
        by_rank({"a": {"a": 1.0}, "b": {"a": 0.5}}, SIZES)


@pytest.mark.parametrize(
    ("members", "weights", "said"),
    [
        ((), (), "weights"),
        (("a",), (0.5,), "add up to 0.5"),
        (("a", "b"), (1.0,), "one of at least 0 a member"),
        (("a", "b"), (2.0, -1.0), "one of at least 0 a member"),
        (("a", "b"), (float("nan"), 1.0), "one of at least 0 a member"),
        (("a", "b"), (1, 0), "one of at least 0 a member"),
        (("a", "a"), (0.5, 0.5), "different names"),
    ],
)
def test_votes_that_cannot_be(members, weights, said):
    with pytest.raises(ValueError, match=said):
        Votes("classification", "mean", members, weights)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"task": "classification", "vote": "mean", "members": 7, "weights": [1.0]},
        {"task": "classification", "vote": "mean", "members": [7], "weights": [1.0]},
        {"task": "classification", "vote": "mean", "members": ["a"], "weights": ["1"]},
    ],
)
def test_values_of_another_kind(values):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Votes.from_dict(values)
