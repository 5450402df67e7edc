"""Which numbers of an update travel: chosen alike everywhere, and refused where bits are wrong."""

import base64

import numpy as np
import pytest
from flwr.app import ConfigRecord
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import ProtocolError
from primia_flwr.messages import sharing

NOTHING = np.empty(0, np.int64)


def asking(share=0.5, by="random", seed=1):
    sites = FederationConfig(sites=["a", "b", "c"])
    part = AggregationConfig(share=share, share_by=by)
    return Experiment(seed=seed, federation=sites, aggregation=part)


def test_the_places_of_a_round_are_those_of_every_version() -> None:
    """A site with another version of this code, or of NumPy, would send other numbers."""
    assert sharing.drawn_places(asking(), 10, 1, NOTHING).tolist() == FIRST
    assert sharing.drawn_places(asking(), 10, 2, NOTHING).tolist() == SECOND


# ten words of AES-256 in counter mode under the digest of seed and deal, in order from the least:
# 5 8 6 3 7 9 4 1 2 0; round 1 takes the first five, round 2 the others
FIRST = [3, 5, 6, 7, 8]
SECOND = [0, 1, 2, 4, 9]


def test_all_numbers_have_their_turn_before_one_comes_twice() -> None:
    drawn = [sharing.drawn_places(asking(0.1), 1000, r, NOTHING) for r in range(1, 21)]
    assert {places.size for places in drawn} == {100}
    assert all((np.diff(places) > 0).all() for places in drawn)
    for deal in (drawn[:10], drawn[10:]):
        assert np.bincount(np.concatenate(deal), minlength=1000).tolist() == [1] * 1000
    assert 0 < np.intersect1d(drawn[0], drawn[10]).size < 40, "the next deal is another one"
    other = sharing.drawn_places(asking(0.1, seed=2), 1000, 1, NOTHING)
    assert 0 < np.intersect1d(other, drawn[0]).size < 40


def test_the_last_turn_is_filled_with_the_first_of_the_deal() -> None:
    """By hand from the order above, three a round: 5 8 6, 3 7 9, 4 1 2, and 0 with 5 and 8."""
    drawn = [sharing.drawn_places(asking(0.3), 10, r, NOTHING).tolist() for r in range(1, 5)]
    assert drawn == [[5, 6, 8], [3, 7, 9], [1, 2, 4], [0, 5, 8]]


def test_beside_those_that_are_told_the_others_have_their_turn() -> None:
    """Two of four places are told, two a round drawn: 5 8, 6 3, 7 9, less those that are told."""
    asked, told = asking(0.4, by="change"), np.array([6, 0])
    drawn = [sharing.drawn_places(asked, 10, r, told).tolist() for r in (1, 2, 3)]
    assert drawn == [[0, 5, 6, 8], [0, 3, 6, 7], [0, 6, 7, 9]]


def test_the_places_that_are_told_are_among_them_and_the_rest_is_drawn() -> None:
    told = np.array([3, 4])
    places = sharing.drawn_places(asking(), 10, 1, told)
    assert places.size == 5
    assert {3, 4} <= set(places.tolist())
    drawn = sharing.drawn_places(asking(), 10, 1, NOTHING)
    assert len(set(places.tolist()) - {3, 4} - set(drawn.tolist())) <= 2


def test_the_largest_are_chosen_by_magnitude_and_of_equals_the_first() -> None:
    numbers = np.array([0.5, -2.0, 0.0, 0.5, 1.0, 0.5], np.float32)
    assert sharing.largest_places(numbers, 2).tolist() == [1, 4]
    assert sharing.largest_places(numbers, 3).tolist() == [0, 1, 4]
    assert sharing.largest_places(numbers, 6).tolist() == [0, 1, 3, 4, 5], "no zeros"
    assert sharing.largest_places(np.zeros(3, np.float32), 2).tolist() == []


@given(st.sets(st.integers(0, 8), max_size=2))
def test_told_places_come_back(places: set[int]) -> None:
    asked = asking(share=0.5, by="change")  # 4 of 9 numbers, 2 of them told
    told = np.array(sorted(places), np.int64)
    config = ConfigRecord({sharing.PLACES: sharing.told_text(told, 9)})
    assert sharing.told_places(config, asked, 9).tolist() == told.tolist()
    assert sharing.told_places(ConfigRecord({}), asking(), 9).tolist() == [], "all are drawn"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "0 bytes; expected 2"),
        (7, "0 bytes; expected 2"),
        ("?", "0 bytes; expected 2"),
        (base64.b64encode(b"\x00\x00\x00").decode(), "3 bytes; expected 2"),
        (base64.b64encode(b"\xe0\x00").decode(), "name 3 shared numbers of 9; expected 0 to 2"),
        (base64.b64encode(b"\x00\x40").decode(), "name 1 shared numbers of 9; expected 0 to 2"),
    ],
)
def test_places_that_are_no_bits_of_this_update_are_refused(text, said) -> None:
    config = ConfigRecord({} if text is None else {sharing.PLACES: text})
    with pytest.raises(ProtocolError, match=said):
        sharing.told_places(config, asking(by="change"), 9)


def test_a_choice_of_ones_own_comes_back_between_zeros() -> None:
    update = np.array([0.0, 1.0, -3.0, 2.0], np.float32)
    part = sharing.own_part(update, np.array([2, 3]))
    assert sharing.own_whole(part, 4).tolist() == [0.0, 0.0, -3.0, 2.0]
    part["vector"] = sharing.own_part(update, np.array([1]))["vector"]
    with pytest.raises(ProtocolError, match="name 2 shared numbers of 4; expected 1 to 1"):
        sharing.own_whole(part, 4)


@pytest.mark.parametrize(
    "rounds",
    [None, 3, [1, 2], [1, 2, 3, 4], [0, 4, 0], [0, -1, 0], [0.0, 1.0, 0.0], [False, True, True]],
)
def test_a_site_that_is_not_told_its_last_round_refuses(rounds) -> None:
    config = ConfigRecord({} if rounds is None else {sharing.SINCE: rounds})
    with pytest.raises(ProtocolError, match="expected for each of the 3 sites a round from 0 to 3"):
        sharing.last_round(config, asking(), "b", 4)


def test_each_site_reads_its_own_last_round() -> None:
    config = ConfigRecord({sharing.SINCE: [0, 3, 2]})
    assert [sharing.last_round(config, asking(), name, 4) for name in "abc"] == [0, 3, 2]
