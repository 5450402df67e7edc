"""Audit of differential privacy: lower bounds on epsilon from attacks, against what is claimed.

- `dp_sgd`: one run of the real steps with 1,000 canary patients, each in the data by a coin. The
  attacker sees every noisy gradient and guesses which are in
  (`primia_bench.privacy.audit.one_run`).
- `dp_sgd_step`: ten thousand runs of one real step on two neighbouring data sets
  (`primia_bench.privacy.audit.step`). It comes nearer to the claim than one run of many steps can.
- `private_round`: every path of a private round (engines, sampling, augmentation, views,
  accumulation, momentum, averaging, repetition, statistics), by some thousand runs of the function
  that a site calls (`primia_bench.privacy.audit.paths`).
- `adaptive_clip`: the same function where the clip moves, and is seen
  (`primia_bench.privacy.audit.adaptive`).
- `dp_aggregate`: some ten thousand runs of the noise of a sum, on the two neighbouring inputs that
  are farthest apart (`primia_bench.privacy.audit.aggregate`).

All bounds are at 99.9 % confidence. In a sound setting the bound must not exceed the claim; in one
that was broken on purpose it must, or the audit sees nothing. Coins, draws and noise come from the
operating system, so the figures change a little from run to run; a sound setting fails by
bad luck in at most one of a thousand runs. Rows that the output file has already, with the same
settings, are not measured again.

    python -m primia_bench.privacy.audit.__main__ --output benchmarks/results/dp_audit.json
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from primia_bench.machine import describe_machine, publish, save
from primia_bench.privacy.audit import adaptive, aggregate, one_run, paths, step
from primia_flwr.privacy.accounting.empirical_epsilon import CONFIDENCE

HOLDS, CAUGHT = "holds", "caught"
_EXIT = "Exit code 1 if a sound setting exceeds its claim, or a broken one is not caught."
MECHANISMS = {
    "dp_sgd": one_run,
    "dp_sgd_step": step,
    "private_round": paths,
    "adaptive_clip": adaptive,
    "dp_aggregate": aggregate,
}
Setting = one_run.Setting | step.Setting | paths.Setting | adaptive.Setting | aggregate.Setting


@dataclass(frozen=True)
class Audit:
    """A setting of a mechanism, and whether its claim should hold or be caught."""

    mechanism: str
    expected: str
    setting: Setting


def all_audits() -> list[Audit]:
    """Return what is audited."""
    return [
        Audit(name, expected, setting)
        for name, module in MECHANISMS.items()
        for expected, settings in ((HOLDS, module.SOUND), (CAUGHT, module.BROKEN))
        for setting in settings
    ]


def measure(
    audits: Sequence[Audit],
    known: Sequence[dict[str, Any]] = (),
    on_row: Callable[[list[dict[str, Any]]], object] = lambda rows: None,
) -> list[dict[str, Any]]:
    """Return a row for each: claim, bound, counts, and whether it is as expected.

    Rows of the same settings that are known already are taken as they are; `on_row` is called with
    all rows so far after each new one.
    """
    rows = list[dict[str, Any]]()
    for audit in audits:
        before = next((row for row in known if _is_of(row, audit)), None)
        if before is not None:
            rows.append(before)
            continue
        started = time.monotonic()
        figures = MECHANISMS[audit.mechanism].run(audit.setting)
        row = {
            "mechanism": audit.mechanism,
            "name": audit.setting.name,
            "expected": audit.expected,
            **figures,
            "as_expected": figures["exceeds_claim"] == (audit.expected == CAUGHT),
            "seconds": round(time.monotonic() - started, 1),
            "setting": asdict(audit.setting),
        }
        sys.stderr.write(line(row) + "\n")
        rows.append(row)
        on_row(rows)
    return rows


def _is_of(row: dict[str, Any], audit: Audit) -> bool:
    wanted = (audit.mechanism, audit.expected, asdict(audit.setting))
    return (row["mechanism"], row["expected"], row["setting"]) == wanted


def known_rows(output: str) -> list[dict[str, Any]]:
    """Return the rows of the output file, if there is one: they are not measured again."""
    path = Path(output)
    return list(json.loads(path.read_text())["rows"]) if output and path.is_file() else []


def line(row: dict[str, Any]) -> str:
    """Return a row in few words."""
    return (
        f"{row['mechanism']}, {row['name']}: claimed {row['claimed_epsilon']:.2f} at delta "
        f"{row['delta']:g}, at least {row['lower_bound']:.2f} found; "
        f"{'as' if row['as_expected'] else 'NOT AS'} expected"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], epilog=_EXIT)
    parser.add_argument("--only", nargs="+", choices=MECHANISMS, default=list(MECHANISMS))
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the network is so small that threads wait for each other
    chosen = [audit for audit in all_audits() if audit.mechanism in args.only]

    rows = measure(chosen, known_rows(args.output), lambda rows: save(report(rows), args.output))
    publish(found := report(rows), args.output)
    return 0 if found["ok"] else 1


def report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is published."""
    return {
        "benchmark": "dp_audit",
        "confidence": CONFIDENCE,
        "rows": rows,
        "ok": all(row["as_expected"] for row in rows),
        "machine": describe_machine(),
    }


if __name__ == "__main__":
    sys.exit(main())
