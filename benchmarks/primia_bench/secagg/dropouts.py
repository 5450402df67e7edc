"""The figure "dropouts": clients that die at each step of the protocol.

One dies, or so many that the instance must be given up; where signatures are at stake also
after another one dropped out, because only then are they asked for. After an instance that was
given up all come back for another try: a new instance for the same model and the same round. A
site that had answered a list of survivors already refuses any other (see `Journal`); if too
many do, those on the list try once more among themselves.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from primia_bench.secagg.rounds import STEPS, Lost, Round, enlist
from primia_bench.secagg.rows import Row, at_most, say
from primia_bench.secagg.sums import Inputs, Verdict, expected_survivors, judge
from primia_flwr.secagg.protocol.parties import LEAST_SURVIVORS, Member
from primia_flwr.secagg.state.journal import Journal

PART = "dropouts"
COUNTS = (5, 10)
ENTRIES = 1_000
MAX_WEIGHT = 10_000


def measure(counts: Sequence[int] = COUNTS) -> tuple[list[Row], list[dict[str, Any]]]:
    """Return the rows, and a table of all cases: who is lost when, and what comes of it."""
    table = [_run(count, lost) for count in counts for lost in losses(count)]
    wrong = sum(not line["holds"] for line in table)
    given_up = [line for line in table if line["other_tries"]]
    stuck = sum("sum over" not in line["other_tries"][-1] for line in given_up)
    say(f"dropouts: {len(table)} cases, {len(given_up)} given up, {wrong} wrong, {stuck} stuck")
    rows = [
        at_most(PART, f"wrong ends of {len(table)} instances", wrong, 0),
        at_most(PART, f"of {len(given_up)} given up, without a right sum later", stuck, 0),
    ]
    return rows, table


def losses(count: int) -> Iterator[Lost]:
    """Return who is lost at which step, by case."""
    first, *others = sorted(enlist(count))
    for step in STEPS:
        enough = LEAST_SURVIVORS if step == "keys" else (count + 1) // 2 + 1
        yield {first: step}
        yield dict.fromkeys([first, *others][: count - enough + 1], step)
        if step in ("signatures", "unmask"):
            yield {first: "vectors", others[0]: step}
            yield {first: "vectors", **dict.fromkeys(others[: count - enough], step)}


def _run(count: int, lost: Lost) -> dict[str, Any]:
    """Run one case, and other tries until one gives a sum."""
    members, rng = enlist(count), np.random.default_rng(count)
    weights = {name: int(rng.integers(1, MAX_WEIGHT)) for name in members}
    inputs = Inputs.draw(weights, ENTRIES, rng)
    journals = {name: Journal(None) for name in members}
    one = Round(members, inputs.payload, lost, journals=journals)
    verdict = judge(one, inputs, expected_survivors(members, lost))
    return {
        "clients": count,
        "lost": dict(Counter(lost.values())),
        "end": _end(verdict),
        "most_shares_of_a_secret": one.exposed,
        "threshold": one.server.threshold,
        "other_tries": [] if verdict.ratios else _try_again(members, inputs, one, journals),
        "holds": verdict.right,
    }


def _try_again(
    members: Mapping[str, Member], inputs: Inputs, first: Round, journals: Mapping[str, Journal]
) -> list[str]:
    """Try with all, then with those in the sum that was given up; say how it ended."""
    ends = []
    for number, absent in enumerate(((), set(members) - set(first.server.survivors)), start=2):
        lost = dict.fromkeys(absent, "keys")
        one = Round(members, inputs.payload, lost, number=number, journals=journals)
        verdict = judge(one, inputs, expected_survivors(members, lost))
        refused = f"refused by {len(one.refusals)}, " if one.refusals else ""
        ends.append(refused + _end(verdict))
        if verdict.ratios:
            break
    return ends


def _end(verdict: Verdict) -> str:
    if verdict.ratios is None:
        return "given up"
    how = "" if verdict.right else "wrong "
    return f"{how}sum over {len(verdict.survivors)}"
