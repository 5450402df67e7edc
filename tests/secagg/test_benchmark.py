"""The benchmark of the protocol in tiny sizes: all that does not depend on the machine holds."""

from __future__ import annotations

import pytest
from primia_bench.secagg.growth import deviation, slope
from primia_bench.secagg.protocol import measure
from primia_bench.secagg.sums import expected_survivors


def test_what_does_not_depend_on_the_machine_holds() -> None:
    rows = measure(quick=True)["rows"]
    parts = {row["part"] for row in rows}
    assert parts == {"exactness", "bytes up", "masking", "growth", "dropouts"}
    broken = {row["what"] for row in rows if not row["timed"] and not row["holds"]}
    assert broken == set()


def test_deviation_and_slope() -> None:
    assert deviation([1, 2, 4], [5, 7, 11]) == pytest.approx(0, abs=1e-12)  # 3 + 2 x
    assert deviation([1, 2, 3], [1, 4, 9]) > 0.1
    assert slope([3, 10, 100], [7, 5, 50]) == pytest.approx(1)
    assert slope([10, 100], [5, 500]) == pytest.approx(2)


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        ({}, "abcde"),
        ({"a": "keys"}, "bcde"),
        ({"a": "keys", "b": "shares"}, "cde"),  # of the four with keys three are enough
        ({"a": "shares", "b": "vectors"}, ""),
        ({"a": "vectors"}, "bcde"),
        ({"a": "unmask"}, "abcde"),
        ({"a": "unmask", "b": "signatures"}, ""),
        ({"a": "vectors", "b": "signatures"}, ""),
        ({"a": "keys", "b": "keys", "c": "vectors"}, ""),
        ({"a": "keys", "b": "keys"}, "cde"),
        ({"a": "keys", "b": "unmask"}, "bcde"),
    ],
)
def test_expected_survivors(lost: dict[str, str], expected: str) -> None:
    assert expected_survivors("abcde", lost) == (tuple(expected) or None)
