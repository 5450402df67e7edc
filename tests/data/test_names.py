from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.data.names import is_placeholder, key_of, one_spelling

ALIKE = [
    ("P01", "p01", " P01 ", "P 01", "\uff3001", "P1", "p\u200b001", "P\t1\n"),
    ("7", "7.0", "007", "7,0", "\u0667", "7.", "7.00", "0007.0", "7e0"),
    ("12345678", "12345678.0", "1.2345678e+07", "1.2345678E7", "012345678"),
    ("0", "00", "0.0"),
    ("\u00c9va", "e\u0301VA", "\u00e9va"),
    ("A-1", "A\u20101", "a\u20131", "A\u22121"),
    ("stra\u00dfe", "STRASSE"),
    ("\ufb01nn", "FINN"),
]
APART = [
    ("7", "8"),
    ("1.5", "1.05"),
    ("10", "1"),
    ("P10", "P1"),
    ("P1", "Q1"),
    ("-1", "1"),
    ("1.2.30", "1.2.3"),
    ("1.25e1", "125"),
    ("A-1", "A1"),
]
NOBODY = (
    *("", " ", "\u200b", "\0", "nan", "NaN", "None", "none ", "NULL", "NA", "N/A", "#N/A", "<NA>"),
    *("NaT", "unknown", "UNKNOWN", "Unknown Patient", "ANONYMOUS", "Anonymous^", "anon", "ANONYM"),
    *("Anonymized", "anonymised", "de-identified", "DEIDENTIFIED", "REMOVED", "???", "-", "--"),
    *("XXXX", "****", "[none]", "'nan'", "no id", "not available", "\uff2e\uff21", "-1"),
)
SOMEBODY = (
    "0",
    "1",
    "P1",
    "Anna",
    "anon7",
    "ANONYMOUS1",
    "x",
    "xx",
    "-5",
    "Nana",
    "Noneman",
    "XXXL",
)


@pytest.mark.parametrize("names", ALIKE)
def test_spellings_of_one_name_have_one_key(names: tuple[str, ...]) -> None:
    assert len({key_of(name) for name in names}) == 1


@pytest.mark.parametrize(("one", "other"), APART)
def test_other_names_have_other_keys(one: str, other: str) -> None:
    assert key_of(one) != key_of(other)


@given(st.text(max_size=12))
def test_a_key_is_its_own_key_and_case_does_not_count(name: str) -> None:
    assert key_of(key_of(name)) == key_of(name)
    assert key_of(f" {name}\t") == key_of(name)


@given(st.integers(0, 10**12), st.integers(0, 5))
def test_whole_numbers_are_one_however_they_are_written(number: int, zeros: int) -> None:
    written = (f"{'0' * zeros}{number}", f"{number}.0", f" {number} ", f"{float(number)!r}")
    assert {key_of(text) for text in written} == {str(number)}


@pytest.mark.parametrize("name", NOBODY)
def test_what_names_nobody(name: str) -> None:
    assert is_placeholder(name)


@pytest.mark.parametrize("name", SOMEBODY)
def test_what_names_somebody(name: str) -> None:
    assert not is_placeholder(name)


def test_the_spelling_of_most_is_kept_and_the_first_on_a_tie() -> None:
    assert one_spelling({"a": 1, "A": 3, "b": 1, "B": 1}) == {
        "a": "A",
        "A": "A",
        "b": "B",
        "B": "B",
    }
