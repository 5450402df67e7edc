"""The table for small federations: the real protocol loses as many sites as the rules say."""

from __future__ import annotations

from primia_bench.secagg.small_federations import measure

STEPS = ("keys", "shares", "vectors", "unmask")


def test_rules_and_protocol_agree() -> None:
    rows, table = measure((3, 4, 5, 6), (0, 1))
    assert [row.holds for row in rows] == [True, True]
    found = {
        (x["sites"], x["max_colluding"]): tuple(x["may_drop"][s] for s in STEPS) for x in table
    }
    # n less t from the shares on, n less min_survivors before: t = 3, 3, 4, 4 and 3, 4, 4, 5
    assert found == {
        (3, 0): (0, 0, 0, 0),
        (4, 0): (1, 1, 1, 1),
        (5, 0): (2, 1, 1, 1),
        (6, 0): (3, 2, 2, 2),
        (3, 1): (0, 0, 0, 0),
        (4, 1): (1, 0, 0, 0),
        (5, 1): (2, 1, 1, 1),
        (6, 1): (3, 1, 1, 1),
    }
    assert [line["without_margin"] for line in table] == [2, 3, 3, 4, 3, 3, 4, 4]
