"""What is computed from one model goes into one sum, whatever a coordinator asks for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.state.given_once import GivenOnce

ABC, ABD, ALL = ["a", "b", "c"], ["a", "b", "d"], ["a", "b", "c", "d"]


@pytest.fixture
def known(tmp_path):
    return GivenOnce(tmp_path / "given.json")


def test_a_sum_that_others_can_open_is_the_only_one(known):
    known.mask(1, b"model", b"one", bound=True)
    known.check(b"model", b"one")  # the same again
    known.check(b"other model", b"two")
    with pytest.raises(ProtocolError, match="after it was given into another"):
        known.check(b"model", b"two")
    with pytest.raises(ProtocolError, match="after it was given into another"):
        known.mask(2, b"model", b"two", bound=False)


def test_a_sum_that_needs_this_site_counts_when_it_helps(known):
    known.mask(1, b"model", b"one", bound=False)
    known.mask(2, b"model", b"two", bound=False)
    known.release(2, ABD)
    with pytest.raises(ProtocolError, match="after it was given into another"):
        known.release(1, ABC)
    known.release(2, ABD)


def test_one_sum_is_opened_over_one_list(known):
    known.mask(1, b"model", b"one", bound=True)
    known.release(1, ABC)
    known.mask(2, b"model", b"one", bound=True)  # asked again: an answer was lost
    known.release(2, ABC)
    known.mask(3, b"model", b"one", bound=True)
    for step in (known.check_survivors, known.release):
        with pytest.raises(ProtocolError, match="after it was given into another"):
            step(3, ALL)


def test_other_instances_are_none_of_its_business(known):
    known.release(7, ABC)
    known.check_survivors(7, ["a"])


def test_it_is_remembered(tmp_path):
    GivenOnce(tmp_path / "given.json").mask(1, b"model", b"one", bound=False)
    GivenOnce(tmp_path / "given.json").release(1, ABC)
    with pytest.raises(ProtocolError, match="after it was given into another"):
        GivenOnce(tmp_path / "given.json").check(b"model", b"two")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"bound": {"xy": 1}, "asked": {}}', b'{"bound": [], "asked": {}}',
     b'{"bound": {}, "asked": {"one": {"base": "", "told": ""}}}', b"[" * 5000],
)  # fmt: skip
def test_what_cannot_be_read_is_answered_with_nothing(tmp_path, content):
    (tmp_path / "given.json").write_bytes(content)
    with pytest.raises(ProtocolError, match="so it gives none"):
        GivenOnce(tmp_path / "given.json").check(b"model", b"one")


_STEP = st.tuples(
    st.sampled_from(["mask", "bind", "release"]), st.integers(1, 3), st.sampled_from("xyz"),
    st.sampled_from([ABC, ABD, ALL]),
)  # fmt: skip


@given(steps=st.lists(_STEP, max_size=12))
@settings(max_examples=60, deadline=None)
def test_whatever_is_asked_one_update_is_opened_in_one_sum(tmp_path_factory, steps):
    """What leaves: a masked vector with `bind` counts as opened, and so do shares."""
    known = GivenOnce(tmp_path_factory.mktemp("given") / "given.json")
    sums, lists, told = set(), set(), {}
    for kind, instance, name, sites in steps:
        try:
            if kind == "release":
                known.release(instance, sites)
                if instance in told:
                    sums.add(told[instance])
                    lists.add((told[instance], tuple(sites)))
            else:
                known.mask(instance, b"m", name.encode(), bound=kind == "bind")
                told[instance] = name
                sums |= {name} if kind == "bind" else set()
        except ProtocolError:
            continue
        told = {at: what for at, what in told.items() if at in sorted(told)[-2:]}
    assert len(sums) <= 1
    assert len(lists) <= 1
