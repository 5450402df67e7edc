"""Lists of sites that go together: no few sites follow from the sums over them."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.journal import Journal, MemberRule
from primia_flwr.secagg.member_lists import blocks, largest_safe, too_small
from primia_flwr.secagg.round_numbers import RoundNumbers

SITES = "abcdefghi"
ROSTER = "11" * 32


@pytest.mark.parametrize(
    ("answered", "asked", "shown"),
    [
        ([], "abc", None),
        (["abcd"], "abcd", None),
        (["abcd"], "abc", "d"),
        (["abcd"], "ab", "ab"),  # both ab and cd; the first by name
        (["abcde"], "abc", "de"),
        (["abcdef"], "abc", None),
        (["abcdef"], "def", None),
        (["abcdef"], "abcd", "ef"),
        (["abc"], "abcd", "d"),
        (["abc"], "abcdef", None),
        (["abc"], "abd", "c"),  # c and d, whose difference would be seen
        (["abcdef", "abc"], "def", None),
        (["abcdefghi", "abcdef"], "abcghi", None),
        (["abcdefghi", "abcdef"], "abghi", "ab"),
    ],
)
def test_who_would_be_shown(answered, asked, shown):
    found = too_small(asked, answered, least=3)
    assert found == (None if shown is None else frozenset(shown))


@pytest.mark.parametrize(
    ("present", "answered", "asked"),
    [
        ("abc", [], "abc"),
        ("abcd", ["abcd"], "abcd"),
        ("abc", ["abcd"], ""),  # at 3, 4 and 5 sites a run waits for all of them
        ("abcd", ["abcde"], ""),
        ("abcde", ["abcdef"], "abc"),  # f and two others out, three left
        ("abcdefgh", ["abcdefghi"], "abcdef"),
        ("abcdefg", ["abcdefghi"], "abcdef"),
        ("abcde", ["abcdefghi"], "abcde"),  # four are out anyway
        ("abcd", ["abc"], "abc"),  # d alone does not come in
        ("abcdef", ["abc"], "abcdef"),
        ("abcdefghi", ["abcdefghi", "abcdef"], "abcdefghi"),
        ("abcdegh", ["abcdefghi", "abcdef"], "abc"),
        ("abcdefgh", ["abcdefghi", "abcdef"], "abcdef"),
    ],
)
def test_the_most_that_may_be_asked(present, answered, asked):
    assert largest_safe(present, answered, least=3) == frozenset(asked)


@given(st.lists(st.sets(st.sampled_from(SITES), min_size=3), max_size=6), st.integers(2, 4))
def test_every_combination_of_the_sums_is_over_enough_sites(asked, least):
    """The rule by its purpose: add and subtract the sums as you like, no few sites are left."""
    answered = []
    for one in asked:
        if len(one) >= least and too_small(one, answered, least=least) is None:
            answered.append(one)
    rows = np.array([[site in one for site in SITES] for one in answered], dtype=int)
    for factors in itertools.product((-2, -1, 0, 1, 2), repeat=len(answered)):
        left = int(np.count_nonzero(np.array(factors, dtype=int) @ rows)) if answered else 0
        assert left == 0 or left >= least


@given(
    st.lists(st.sets(st.sampled_from(SITES), min_size=3), min_size=1, max_size=4),
    st.sets(st.sampled_from(SITES)),
)
def test_what_the_coordinator_asks_is_what_sites_answer(asked, present):
    answered = []
    for one in asked:
        if too_small(one, answered, least=3) is None:
            answered.append(one)
    safe = largest_safe(present, answered, least=3)
    assert safe <= present
    assert not safe or too_small(safe, answered, least=3) is None
    assert not answered[-1] <= present or safe, "who was there before is never left waiting"


def test_blocks_are_named_by_who_was_always_together():
    assert blocks(["abcdef", "abc", "abcghi"]) == [
        frozenset("abc"), frozenset("def"), frozenset("ghi"),
    ]  # fmt: skip


# --- At the site ---------------------------------------------------------------------------------


def journal(folder: Path, **how) -> Journal:
    rule = MemberRule(how.pop("roster", ROSTER), 3, since=how.pop("since", ""))
    return Journal(folder / "answered.jsonl", rule=rule, **how)


def test_lists_are_remembered_over_processes_and_bases(tmp_path):
    journal(tmp_path).record([b"m1"], "abcd")
    journal(tmp_path).record([b"m2"], "abcd")
    with pytest.raises(ProtocolError, match=r"sums over other sites under the same roster: d wo"):
        journal(tmp_path).record([b"m3"], "abc")
    journal(tmp_path, allow_other_list=True).record([b"m3"], "abc")


def test_a_new_roster_or_a_day_begins_anew(tmp_path):
    journal(tmp_path).record([b"m1"], "abcd")
    journal(tmp_path, roster="22" * 32).check([b"m2"], "abc")
    journal(tmp_path, since="9999-12-31").check([b"m2"], "abc")
    with pytest.raises(ProtocolError, match="would follow from their"):
        journal(tmp_path, since="2000-01-01").check([b"m2"], "abc")


def test_answers_with_noise_of_their_own_do_not_count(tmp_path):
    Journal(tmp_path / "answered.jsonl").record([b"m1"], "abcd")
    journal(tmp_path).record([b"m2"], "abc")


@pytest.mark.parametrize("lines", [0, 1])
def test_lines_that_are_missing_are_missed(tmp_path, lines):
    journal(tmp_path).record([b"m1", b"r1"], "abcd")
    file = tmp_path / "answered.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:lines]))
    with pytest.raises(ProtocolError, match=f"has {lines} lines of 2 that were written"):
        journal(tmp_path)


@pytest.mark.parametrize("head", [b"", b"x\n", b"-1", b"2", b"\xff\n"])
def test_a_head_that_the_site_did_not_write_is_refused(tmp_path, head):
    journal(tmp_path).record([b"m1", b"r1"], "abcd")
    (tmp_path / "answered.jsonl.head").write_bytes(head)
    with pytest.raises(ProtocolError, match="expected what this site wrote"):
        journal(tmp_path)


def test_a_crash_between_a_line_and_its_count_loses_nothing(tmp_path):
    journal(tmp_path).record([b"m1", b"r1"], "abcd")
    (tmp_path / "answered.jsonl.head").write_bytes(b"1\n")
    with pytest.raises(ProtocolError, match="was given"):
        journal(tmp_path).check([b"r1"], "abc")


def test_rounds_only_rise(tmp_path):
    rounds = RoundNumbers(tmp_path / "rounds.json")
    rounds.record("train", 3, b"m")
    rounds.record("train", 3, b"m")
    rounds.record("evaluate", 1, b"n")
    rounds.record("train", 5, b"o")
    for number, base in ((4, b"p"), (3, b"m"), (5, b"m")):
        with pytest.raises(
            ProtocolError, match=f"train round {number} is asked for, after round 5"
        ):
            RoundNumbers(tmp_path / "rounds.json").check("train", number, base)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"train": 1}', b'{"train": ["1", "x"]}', b"[" * 9999]
)
def test_rounds_that_cannot_be_read_are_refused(tmp_path, content):
    (tmp_path / "rounds.json").write_bytes(content)
    with pytest.raises(ProtocolError, match="cannot be read; expected what this site wrote"):
        RoundNumbers(tmp_path / "rounds.json").check("train", 1, b"m")
