"""Numbers as people read them, each case by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from primia_flwr.numbers import (
    BRACKETS,
    DASH,
    count,
    duration,
    figure,
    interval,
    p_value,
    scientific,
    shown,
    size,
)

MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (figure(-0.1234), f"{MINUS}0.123"),
        (figure(12.36, 1), "12.4"),
        (figure(None), DASH),
        (figure(math.nan), DASH),
        (p_value(0.0009), "< 0.001"),
        (p_value(0.001), "0.001"),
        (p_value(None), DASH),
        (scientific(0.000123), "1.23e-04"),
        (scientific(None), DASH),
        (shown(0.012345), "0.0123"),
        (shown("adam"), "adam"),
        (count(1234567), "1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567"),
        (count(None), DASH),
        (size(999), "999 B"),
        (size(1_500_000), "1.5 MB"),
        (size(2e15), "2000.0 TB"),
        (duration(None), ""),
        (duration(59.94), "59.9 s"),
        (duration(61), "1 min 1 s"),
        (duration(3 * 3600 + 59.6 * 60), "3 h 59 min"),
    ],
)
def test_a_number_in_words(text: str, expected: str) -> None:
    assert text == expected


def test_an_interval_has_its_limits_where_both_are_known() -> None:
    found = SimpleNamespace(value=0.5, low=-0.25, high=0.75)
    assert interval(found) == f"0.500 ({MINUS}0.250 to 0.750)"
    assert interval(found, BRACKETS) == f"0.500 [{MINUS}0.250, 0.750]"
    assert interval(SimpleNamespace(value=0.5, low=None, high=0.75)) == "0.500"
    assert interval(SimpleNamespace(value=None, low=0.1, high=0.2)) == interval(None) == DASH
