"""Lists of sites that go together: no few sites follow from the sums over them."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.protocol.parties import Floor
from primia_flwr.secagg.state.journal import Journal, MemberRule
from primia_flwr.secagg.state.member_lists import batches, largest_safe, shown
from primia_flwr.secagg.state.round_numbers import RoundNumbers

SITES = "abcdefghi"
ROSTER = "11" * 32


@pytest.mark.parametrize(
    ("first", "cut"),
    [
        ("abc", ["abc"]),
        ("abcd", ["abcd"]),
        ("abcde", ["abcde"]),
        ("fedcba", ["abc", "def"]),
        ("abcdefgh", ["abc", "defgh"]),
        ("abcdefghi", ["abc", "def", "ghi"]),
        ("ab", ["ab"]),
    ],
)
def test_batches_are_of_three_by_name_and_the_last_takes_the_rest(first, cut):
    assert batches(first, least=3) == [frozenset(batch) for batch in cut]


@pytest.mark.parametrize(
    ("answered", "asked", "found"),
    [
        ([], "abc", ""),
        (["abcd"], "abcd", ""),
        (["abcd"], "abc", "d"),
        (["abcd"], "ab", "cd"),
        (["abcde"], "abc", "de"),
        (["abcdef"], "abc", ""),
        (["abcdef"], "def", ""),
        (["abcdef"], "abcd", "ef"),
        (["abcdef"], "bcd", "aef"),  # would be safe alone, not to those who see other lists
        (["abc"], "abcd", "d"),
        (["abc"], "abcdef", "def"),
        (["abc"], "abd", "cd"),
        (["abcdefghi", "abcdef"], "abcghi", ""),
        (["abcdefghi", "abcdef"], "abghi", "c"),
    ],
)
def test_who_would_be_shown(answered, asked, found):
    assert shown(asked, answered, least=3) == frozenset(found)


@pytest.mark.parametrize(
    ("present", "answered", "asked"),
    [
        ("abc", [], "abc"),
        ("abcd", ["abcd"], "abcd"),
        ("abc", ["abcd"], ""),  # at 3, 4 and 5 sites a run waits for all of them
        ("abcd", ["abcde"], ""),
        ("abcde", ["abcdef"], "abc"),  # f and two others out, three left
        ("abcdefgh", ["abcdefghi"], "abcdef"),
        ("abdefghi", ["abcdefghi"], "defghi"),
        ("abcd", ["abc"], "abc"),  # who is not in the first sum does not come in
        ("abcdefghi", ["abcdefghi", "abcdef"], "abcdefghi"),
        ("abdeghi", ["abcdefghi"], "ghi"),
    ],
)
def test_the_most_that_may_be_asked(present, answered, asked):
    assert largest_safe(present, answered, least=3) == frozenset(asked)


class Federation:
    """Sites that each see only the lists that they are on, and a coordinator that asks at will."""

    def __init__(self, names, least=3):
        self.books, self.least = {name: [] for name in names}, least
        self.opened = []

    def ask(self, names, skipped=0):
        """Open a sum if as many sites as the threshold answer; others never hear of it."""
        willing = [n for n in sorted(names) if not shown(names, self.books[n], least=self.least)]
        threshold = Floor(self.least).least_threshold(len(names))
        answering = willing[: max(threshold, len(willing) - skipped)]
        if len(answering) < threshold:
            return False
        for name in answering:
            self.books[name].append(names)
        self.opened.append(names)
        return True

    def fewest_left(self):
        """Return the fewest sites in any sum of the sums with factors from -2 to 2; 0 is none."""
        rows = [[name in one for name in self.books] for one in dict.fromkeys(self.opened)][:5]
        found = [
            int(np.count_nonzero(np.array(factors) @ np.array(rows, dtype=int)))
            for factors in itertools.product((-2, -1, 0, 1, 2), repeat=len(rows))
        ]
        return min((count for count in found if count), default=0)


def test_lists_that_are_safe_to_those_on_each_may_show_a_site_together():
    """{abc} and {def} and {abcdefg}: no site is on all three, and their difference is g's."""
    seven = Federation("abcdefg")
    assert seven.ask("abcdefg")
    assert seven.ask("abc")
    assert not seven.ask("def"), "d, e and f are of a batch with g"
    assert seven.fewest_left() == 3


@given(
    st.lists(st.tuples(st.sets(st.sampled_from(SITES), min_size=3), st.integers(0, 4)), max_size=7)
)
def test_every_combination_of_the_sums_is_over_enough_sites(asked):
    """The rule by its purpose: add and subtract the sums as you like, no few sites are left."""
    federation = Federation(SITES)
    for names, skipped in asked:
        federation.ask("".join(sorted(names)), skipped)
    assert federation.fewest_left() in (0, *range(3, 10))


@given(
    st.sets(st.sampled_from(SITES), min_size=3),
    st.sets(st.sampled_from(SITES)),
)
def test_what_the_coordinator_asks_is_what_sites_answer(first, present):
    safe = largest_safe(present, [first], least=3)
    assert safe <= present
    assert not shown(safe, [first], least=3)
    assert not first <= present or safe == first, "who was there before is never left waiting"


# --- At the site ---------------------------------------------------------------------------------


def journal(folder: Path, **how) -> Journal:
    rule = MemberRule(how.pop("roster", ROSTER), 3, since=how.pop("since", ""))
    return Journal(folder / "answered.jsonl", rule=rule, **how)


def test_lists_are_remembered_over_processes_and_bases(tmp_path):
    journal(tmp_path).record([b"m1"], "abcd")
    journal(tmp_path).record([b"m2"], "abcd")
    with pytest.raises(
        ProtocolError, match=r"sums over other sites under the same roster: d could"
    ):
        journal(tmp_path).record([b"m3"], "abc")
    journal(tmp_path, allow_other_list=True).record([b"m3"], "abc")


def test_a_new_roster_or_a_day_begins_anew(tmp_path):
    journal(tmp_path).record([b"m1"], "abcd")
    journal(tmp_path, roster="22" * 32).check([b"m2"], "abc")
    journal(tmp_path, since="9999-12-31").check([b"m2"], "abc")
    journal(tmp_path, since="9999-12-31").check([b"m1"], "abc")  # as statistics of the same data
    with pytest.raises(ProtocolError, match="could follow from their"):
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
