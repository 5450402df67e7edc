"""A buffer is read as it was stated, and nothing else that says something like it."""

import pytest
from flwr.app import ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.errors import ProtocolError
from primia_flwr.messages.buffered import Buffer, Waiting, discount

SETTINGS = AggregationConfig(name="buffered", max_staleness=5)
ONE, TWO = "1" * 64, "2" * 64
PARTS = {"a": Waiting(3, ONE), "b": Waiting(3, ONE), "c": Waiting(1, TWO)}
BUFFER = Buffer(4, PARTS, 0.5)


def changed(**values):
    config = {**BUFFER.content().config_records["config"], **values}
    return RecordDict({"config": ConfigRecord(config)})


def test_weights_follow_from_the_rounds():
    assert [BUFFER.weight_of(site) for site in "abc"] == [2**-0.5, 2**-0.5, 0.5]
    assert discount(10_000, 100) > 0


@given(
    number=st.integers(6, 50),
    ages=st.lists(st.integers(0, 5), min_size=1, max_size=6),
)
def test_it_is_read_as_it_was_stated(number, ages):
    digests = {age: f"{age:064x}" for age in ages}
    parts = {f"site-{at}": Waiting(number - age, digests[age]) for at, age in enumerate(ages)}
    buffer = Buffer(number, parts, 0.5)
    found = Buffer.read(buffer.content(), SETTINGS)
    assert found == buffer
    assert found.digest == buffer.digest


def test_its_digest_binds_all_of_it():
    others = [
        Buffer(5, PARTS, 0.5),
        Buffer(4, PARTS, 0.6),
        Buffer(4, {**PARTS, "a": Waiting(2, ONE)}, 0.5),
        Buffer(4, {**PARTS, "a": Waiting(3, TWO)}, 0.5),
        Buffer(4, {"a": PARTS["a"], "b": PARTS["b"]}, 0.5),
        Buffer(4, {"a": PARTS["a"], "b": PARTS["b"], "d": PARTS["c"]}, 0.5),
    ]
    assert len({buffer.digest for buffer in [BUFFER, *others]}) == 7


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"buffer-sites": ["a", "a", "c"]}, "the sites a, a, c; expected each once, by name"),
        ({"buffer-sites": ["b", "a", "c"]}, "expected each once, by name"),
        ({"buffer-sites": ["a", "b"]}, "lists of different lengths"),
        ({"buffer-sites": "a"}, "expected a list of str"),
        ({"buffer-weights": [1.0, 2**-0.5, 0.5]}, r"a weight of 1.0 for a; expected \(1 \+ 1\)"),
        ({"buffer-weights": [2**-0.5, 2**-0.5, 0.5000000001]}, "a weight of .* for c"),
        ({"buffer-weights": [1, 1, 1]}, "expected a list of float"),
        ({"buffer-since": [5, 3, 1]}, "an update of round 5 in round 4"),
        ({"buffer-since": [0, 3, 1]}, "an update of round 0 in round 4"),
        ({"server-round": 9}, "0 to max_staleness=5 rounds old"),
        ({"server-round": 0}, "expected the round's number, from 1"),
        ({"server-round": True}, "expected the round's number, from 1"),
        ({"buffer-told": [ONE, TWO, TWO]}, "two models of one round"),
        ({"buffer-told": [ONE, ONE, "x"]}, "expected a SHA-256"),
        ({"more": 1}, "a buffer with .*more"),
    ],
)
def test_what_is_amiss_is_refused(values, said):
    with pytest.raises(ProtocolError, match=said):
        Buffer.read(changed(**values), SETTINGS)


def test_a_message_with_more_or_less_is_refused():
    for content in (RecordDict({}), RecordDict({**BUFFER.content(), "arrays": ConfigRecord({})})):
        with pytest.raises(ProtocolError, match="a buffer with"):
            Buffer.read(content, SETTINGS)


def test_a_site_checks_what_is_its_own():
    own = {"roster": "abcd", "least": 3, "mixed": True}
    BUFFER.check_own("a", Waiting(3, ONE), **own)
    for held in (Waiting(2, ONE), Waiting(3, TWO)):
        with pytest.raises(ProtocolError, match="a with another update than the one of round"):
            BUFFER.check_own("a", held, **own)
    with pytest.raises(ProtocolError, match="d with another update"):
        BUFFER.check_own("d", Waiting(3, ONE), **own)
    with pytest.raises(ProtocolError, match="the site b; expected sites of the roster"):
        BUFFER.check_own("a", Waiting(3, ONE), **{**own, "roster": "ac"})
    with pytest.raises(ProtocolError, match="3 updates; expected at least 4, as a insists"):
        BUFFER.check_own("a", Waiting(3, ONE), **{**own, "least": 4})
    with pytest.raises(ProtocolError, match="updates of c of another model than a was sent; exp"):
        BUFFER.check_own("a", Waiting(3, ONE), **{**own, "mixed": False})
