"""Audit of differential privacy: lower bounds on epsilon from attacks, against what is claimed.

- `dp_sgd`: one run of the real steps with 1,000 canary patients, each in the data by a coin. The
  attacker sees every noisy gradient and guesses which are in (`benchmarks.audit.one_run`).
- `dp_aggregate`: some ten thousand runs of the noise of a sum, on the two neighbouring inputs that
  are farthest apart (`benchmarks.audit.repeated`).

All bounds are at 99.9 % confidence. In a sound setting the bound must not exceed the claim; in one
that was broken on purpose it must, or the audit sees nothing. Coins, draws and noise come from the
operating system, so the figures change a little from run to run; a sound setting fails by
bad luck in at most one of a thousand runs.

    python -m benchmarks.dp_audit --output benchmarks/results/dp_audit.json
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.audit import one_run, repeated
from benchmarks.machine import describe_machine, publish
from primia_flwr.privacy.audit import CONFIDENCE

HOLDS, CAUGHT = "holds", "caught"
_EXIT = "Exit code 1 if a sound setting exceeds its claim, or a broken one is not caught."
Audit = tuple[str, one_run.Setting | repeated.Setting]


def all_settings() -> list[Audit]:
    """Return what is audited, each with what is expected of it."""
    sound = [(HOLDS, setting) for setting in (*one_run.SOUND, *repeated.SOUND)]
    return sound + [(CAUGHT, setting) for setting in (*one_run.BROKEN, *repeated.BROKEN)]


def measure(audits: Sequence[Audit]) -> list[dict[str, Any]]:
    """Return a row for each setting: claim, bound, counts, and whether it is as expected."""
    rows = []
    for expected, setting in audits:
        if isinstance(setting, one_run.Setting):
            mechanism, figures = "dp_sgd", one_run.run(setting)
        else:
            mechanism, figures = "dp_aggregate", repeated.run(setting)
        row = {"mechanism": mechanism, "name": setting.name, "expected": expected, **figures}
        row["as_expected"] = row["exceeds_claim"] == (expected == CAUGHT)
        sys.stderr.write(
            f"{mechanism}, {setting.name}: claimed {row['claimed_epsilon']:.3f}, at least "
            f"{row['lower_bound']:.3f}; {'as' if row['as_expected'] else 'NOT AS'} expected\n"
        )
        rows.append({**row, "setting": asdict(setting)})
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], epilog=_EXIT)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args(arguments)
    rows = measure(all_settings())
    ok = all(row["as_expected"] for row in rows)
    publish(
        {
            "benchmark": "dp_audit",
            "confidence": CONFIDENCE,
            "rows": rows,
            "ok": ok,
            "machine": describe_machine(),
        },
        args.output,
    )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
