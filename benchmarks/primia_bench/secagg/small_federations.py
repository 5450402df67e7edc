"""What a few sites can do without in a round, and what the margin of the threshold costs them.

For n sites of which c may collude: the threshold t, the one without a margin of one site (t >
(n + c) / 2), and how many may drop out under each rule alone. Then the real protocol is run with
one site lost at a step, two, and so on, while the sum over those that are left is opened and
right. Steps: before a site's keys, its sealed shares, its masked vector, or its answer with which
masks come off.

Last, what a run does that has had a sum over all n and then loses one site: with how many it goes
on, by the lists that sites answer (docs/adr/0017), or 0 where it waits for the site.

    python -m primia_bench.secagg.small_federations \
        --output benchmarks/results/small_federations.json

The table goes to stderr, the JSON to stdout; it takes seconds.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from primia_bench.machine import describe_machine, publish
from primia_bench.secagg.rounds import Lost, Round, enlist
from primia_bench.secagg.rows import Row, at_most, say
from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.secagg.protocol.parties import LEAST_SURVIVORS, Floor
from primia_flwr.secagg.state.journal import Journal, MemberRule
from primia_flwr.secagg.state.member_lists import largest_safe

COUNTS = (3, 4, 5, 6, 7, 9, 12)
COLLUDING = (0, 1)
STEPS = ("keys", "shares", "vectors", "unmask")
ENTRIES = 16

Rule = Callable[[int, Floor], int]


def _by_threshold(count: int, floor: Floor) -> int:
    return count - floor.least_threshold(count)


def _by_min_survivors(count: int, floor: Floor) -> int:
    return count - floor.min_survivors


# How many of so many sites may drop out between keys and masked vector; all rules hold at once.
RULES: Mapping[str, Rule] = {
    "threshold": _by_threshold,
    "min_survivors": _by_min_survivors,
}


def measure(
    counts: Sequence[int] = COUNTS, colluding: Sequence[int] = COLLUDING
) -> tuple[list[Row], list[dict[str, Any]]]:
    """Return the rows, and a table with a line for each federation."""
    floors = [Floor(max(LEAST_SURVIVORS, c + 2), c) for c in colluding]
    table = [_line(n, floor) for floor in floors for n in counts if n >= floor.min_survivors]
    off = sum(line["may_drop"]["vectors"] != min(line["rules"].values()) for line in table)
    wrong = sum(line["wrong_sums"] for line in table)
    rows = [
        at_most("small federations", "federations that lose more or fewer than rules say", off, 0),
        at_most("small federations", "wrong sums", wrong, 0),
    ]
    return rows, table


def _line(count: int, floor: Floor) -> dict[str, Any]:
    found = {step: _most_lost(count, floor, step) for step in STEPS}
    return {
        "sites": count,
        "max_colluding": floor.max_colluding,
        "min_survivors": floor.min_survivors,
        "threshold": floor.least_threshold(count),
        "without_margin": (count + floor.max_colluding) // 2 + 1,
        "rules": {name: rule(count, floor) for name, rule in RULES.items()},
        "goes_on_with": _goes_on_with(count, floor),
        "may_drop": {step: most for step, (most, _) in found.items()},
        "wrong_sums": sum(wrong for _, wrong in found.values()),
    }


def _goes_on_with(count: int, floor: Floor) -> dict[str, int]:
    """Return with how many sites a run goes on that has had a sum over all and then loses one.

    By default, and where the sites' policies allow any lists; 0 where it waits.
    """
    everyone = sorted(enlist(count))
    rest = everyone[:-1]
    found = {}
    for name, allow in (("default", False), ("any list", True)):
        lists = [] if allow else [everyone]
        asked = sorted(largest_safe(rest, lists, least=floor.min_survivors))
        rule = MemberRule("", floor.min_survivors)
        journal = Journal(None, rule=rule, allow_other_list=allow)
        journal.record([b"round 1"], everyone)
        if asked:
            journal.record([b"round 2"], asked)  # every site answers it
        enough = max(floor.min_survivors, floor.least_threshold(len(asked)))
        found[name] = len(asked) if len(asked) >= enough else 0
    return found


def _most_lost(count: int, floor: Floor, step: str) -> tuple[int, int]:
    """Return how many may be lost at a step, and how many sums were wrong."""
    wrong = 0
    for lost in range(count):
        right = _sum_is_right(count, floor, dict.fromkeys(sorted(enlist(count))[:lost], step))
        if right is None:
            return lost - 1, wrong
        wrong += not right
    return count - 1, wrong


def _sum_is_right(count: int, floor: Floor, lost: Lost) -> bool | None:
    """Run an instance; return whether its sum is right, None where it is given up."""
    rng = np.random.default_rng(count)
    members = enlist(count, floor)
    values = {name: rng.integers(0, 2**32, ENTRIES, dtype=np.uint32) for name in members}

    def payload(name: str) -> list[Vector]:
        return [values[name].copy()]

    one = Round(members, payload, lost)
    try:
        (total,) = one.run()
    except ProtocolError:
        return None
    in_the_sum = [values[name] for name in one.server.survivors]
    expected = set(members) - {name for name, step in lost.items() if step != "unmask"}
    right = np.array_equal(total, np.sum(in_the_sum, axis=0, dtype=np.uint32))
    return right and set(one.server.survivors) == expected


def show(table: Sequence[Mapping[str, Any]]) -> None:
    """Print the table for people."""
    heads = ["n", "c", "t", "without margin", *RULES, *(f"lost: {step}" for step in STEPS)]
    heads += ["goes on with", "with any list"]
    say("| " + " | ".join(heads) + " |")
    say("|" + " --- |" * len(heads))
    for line in table:
        facts = [line[key] for key in ("sites", "max_colluding", "threshold", "without_margin")]
        cells = [*facts, *line["rules"].values(), *line["may_drop"].values()]
        cells += [most or "waits" for most in line["goes_on_with"].values()]
        say("| " + " | ".join(str(cell) for cell in cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    rows, table = measure()
    show(table)
    result = {
        "benchmark": "small_federations",
        "rows": [row.to_dict() for row in rows],
        "do_not_hold": [row.what for row in rows if not row.holds],
        "table": table,
        "machine": describe_machine(),
    }
    publish(result, args.output)


if __name__ == "__main__":
    main()
