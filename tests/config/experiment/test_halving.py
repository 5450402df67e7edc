from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.config.experiment.halving import (
    Rung,
    halving_rungs,
    random_search_rungs,
    rounds_in_all,
)
from primia_flwr.errors import ConfigError


@pytest.mark.parametrize(
    ("population", "eta", "rounds", "first", "rungs", "in_all"),
    [
        (9, 3, 9, 0, [(9, 1), (3, 3), (1, 9)], 9 * 1 + 3 * 2 + 1 * 6),
        (9, 3, 27, 0, [(9, 3), (3, 9), (1, 27)], 9 * 3 + 3 * 6 + 1 * 18),
        (8, 2, 8, 0, [(8, 1), (4, 2), (2, 4), (1, 8)], 8 + 4 + 2 * 2 + 4),
        (8, 3, 9, 0, [(8, 1), (2, 3), (1, 9)], 8 + 2 * 2 + 6),
        (9, 3, 70, 0, [(9, 8), (3, 23), (1, 70)], 9 * 8 + 3 * 15 + 47),
        # first 4, then 4 sqrt(9 / 4) = 6, then 9
        (9, 3, 9, 4, [(9, 4), (3, 6), (1, 9)], 9 * 4 + 3 * 2 + 3),
        (2, 5, 2, 0, [(2, 1), (1, 2)], None),
    ],
)
def test_rungs_by_hand(population, eta, rounds, first, rungs, in_all):
    if (population, eta) == (2, 5):
        # 2 / 5 of a round is none
        with pytest.raises(ConfigError, match=r"rungs of 0, 2 rounds"):
            halving_rungs(population, eta, rounds, first)
        return
    found = halving_rungs(population, eta, rounds, first)
    assert found == [Rung(*rung) for rung in rungs]
    assert rounds_in_all(found) == in_all


@given(st.integers(2, 200), st.integers(2, 9), st.integers(1, 500), st.integers(0, 60))
def test_rungs_shrink_and_grow_to_one_of_full_length(population, eta, rounds, first):
    try:
        rungs = halving_rungs(population, eta, rounds, first)
    except ConfigError:
        return
    assert rungs[0].configurations == population
    assert rungs[-1] == Rung(1, rounds)
    for one, following in pairwise(rungs):
        assert following.configurations == max(1, one.configurations // eta)
        assert 1 <= one.rounds < following.rounds


def test_a_random_search_trains_no_more_rounds():
    halving = halving_rungs(9, 3, 9)
    assert random_search_rungs(halving) == [Rung(2, 9)]  # 21 rounds are two times 9, and 3 more
    assert random_search_rungs(halving_rungs(27, 3, 27)) == [Rung(3, 27)]  # 27 + 18 + 18 + 18


def test_too_few_rounds_and_too_small_a_budget_are_refused():
    with pytest.raises(ConfigError, match=r"rungs of 0, 1, 4 rounds; .*federation\.rounds=9"):
        halving_rungs(9, 3, 4)
    with pytest.raises(ConfigError, match=r"rungs of 9, 9, 9 rounds"):
        halving_rungs(9, 3, 9, 9)
    with pytest.raises(ConfigError, match=r"3 rounds is less than two trainings of 2"):
        random_search_rungs(halving_rungs(2, 2, 2))
