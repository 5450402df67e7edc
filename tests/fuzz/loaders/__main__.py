"""Find every loader of the product, and feed each with changed files and messages.

    python -m tests.fuzz.loaders --list            # what decodes, and which target reaches it
    python -m tests.fuzz.loaders --seconds 600     # look for what is no refusal
    python -m tests.fuzz.loaders --reproduce FILE  # a finding again, with its traceback

It needs nothing that the tests do not need. It fails, too, where a decoding call in the source is
reached by no target. Findings are kept in `--findings`, as TARGET--ERROR--LINE.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from primia_bench.machine import describe_machine, publish

from primia_flwr.errors import PrimiaError
from tests.fuzz.loaders.campaign import (
    MAX_MEMORY_MIB,
    MAX_SECONDS_OF_ONE,
    Campaign,
    limit_memory,
    report,
)
from tests.fuzz.loaders.changes import MAX_BYTES
from tests.fuzz.loaders.coverage import reached_by
from tests.fuzz.loaders.discovery import ROOT, Site, find, loaders
from tests.fuzz.loaders.exclusions import reason
from tests.fuzz.loaders.target import make, names


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="targets whose names begin so")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--reproduce", type=Path, metavar="FILE")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    parser.add_argument("--findings", type=Path, default=Path("outputs/fuzz-loaders"))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a disk would be waited for
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory) as folder:
        if args.reproduce:
            return reproduce(args.reproduce, Path(folder))
        if args.list:
            return show(Path(folder))
        if args.worker:
            return work(args, Path(folder))
        return watch(args, Path(folder))


def show(folder: Path) -> int:
    """List the loaders that the source has, and the targets that reach each."""
    sites, by = find(), dict[Site, list[str]]()
    for name in names():
        for site in reached_by(make(name, folder), sites):
            by.setdefault(site, []).append(name)
    missing = [site for site in sites if not by.get(site) and not reason(site)]
    for loader in loaders(sites):
        own = [site for site in sites if site.loader == loader]
        through = sorted({name for site in own for name in by.get(site, [])})
        why = ", ".join(through) or f"({reason(own[0]) or 'NO TARGET'})"
        sys.stdout.write(f"{loader}: {why}\n")
    for site in missing:
        sys.stdout.write(f"no target reaches {site.call} in {site.file}, line {site.line}\n")
    sys.stdout.write(f"{len(sites)} decoding calls, {len(loaders(sites))} loaders\n")
    return int(bool(missing))


def watch(args: argparse.Namespace, folder: Path) -> int:
    """Let another process do the work, so that it may die of an input."""
    command = [sys.executable, "-m", "tests.fuzz.loaders", "--worker", str(folder)]
    command += ["--seconds", str(args.seconds), "--seed", str(args.seed), "--only", args.only]
    command += ["--findings", str(args.findings)]
    try:
        code = subprocess.run(command, cwd=ROOT, timeout=args.seconds + 300).returncode
    except subprocess.TimeoutExpired:
        code = -1
    result = folder / "result.json"
    if not result.exists():
        kept = args.findings / "killed"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes((folder / "current").read_bytes())
        sys.stderr.write(f"the process ended with {code}; what it was reading is in {kept}\n")
        return 1
    publish(json.loads(result.read_text(encoding="utf-8")), args.output)
    return code


def work(args: argparse.Namespace, folder: Path) -> int:
    """Feed the targets; write figures and findings."""
    sites, reached = find(), set[Site]()
    made = {}
    for name in names():
        if name.startswith(args.only):
            made[name] = make(name, folder)
            reached |= reached_by(made[name], sites)
    missing = [] if args.only else [s for s in sites if s not in reached and not reason(s)]
    logging.disable(logging.CRITICAL)  # refusals are told by the thousand
    campaign = Campaign(made, random.Random(args.seed), args.worker / "current")
    campaign.run_for(args.seconds)
    for line in report(campaign.findings):
        sys.stderr.write(line + "\n")
    for site in missing:
        sys.stderr.write(f"no target reaches {site.call} in {site.file}, line {site.line}\n")
    _write_findings(args.findings, campaign)
    text = json.dumps(figures(args, campaign, sites, missing))
    (args.worker / "result.json").write_text(text, encoding="utf-8")
    return int(bool(campaign.findings or missing))


def figures(
    args: argparse.Namespace, campaign: Campaign, sites: list[Site], missing: list[Site]
) -> dict[str, Any]:
    counts = campaign.counts
    return {
        "benchmark": "fuzz_loaders",
        "settings": {
            "seconds": args.seconds,
            "seed": args.seed,
            "max_bytes": MAX_BYTES,
            "max_new_memory_mib": MAX_MEMORY_MIB,
            "max_seconds_of_one": MAX_SECONDS_OF_ONE,
        },
        "decoding_calls": len(sites),
        "loaders": len(loaders(sites)),
        "without_a_target": [site.loader for site in missing],
        "excluded": {s.loader: reason(s) for s in sites if reason(s)},
        "executions": sum(count.executions for count in counts.values()),
        "accepted": sum(count.accepted for count in counts.values()),
        "findings": list(report(campaign.findings)),
        "slowest_seconds": round(max(count.slowest for count in counts.values()), 3),
        "targets": {
            name: {key: round(value, 3) for key, value in asdict(count).items()}
            for name, count in counts.items()
        },
        "machine": describe_machine(),
    }


def reproduce(file: Path, folder: Path) -> int:
    """Give the bytes of a finding to the target that its file is named after."""
    name, raw = file.name.partition("--")[0], file.read_bytes()
    names()
    made = make(name.replace("_", " "), folder)
    limit_memory()
    try:
        made.load(raw)
    except PrimiaError as error:
        sys.stdout.write(f"{name}: refused: {error}\n")
    else:
        sys.stdout.write(f"{name}: accepted\n")
    return 0


def _write_findings(folder: Path, campaign: Campaign) -> None:
    for (name, kind, where), (raw, _) in campaign.findings.items():
        folder.mkdir(parents=True, exist_ok=True)
        file = f"{name}--{kind}--{where}".replace(" ", "_").replace(":", "-").replace("/", "_")
        (folder / file).write_bytes(raw)


if __name__ == "__main__":
    sys.exit(main())
