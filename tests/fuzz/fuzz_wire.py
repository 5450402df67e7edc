"""Feed what decodes bytes of others with changed messages, guided by the code that they reach.

    taskset -c 0 python -m tests.fuzz.fuzz_wire --seconds 600

It starts from the messages of an honest federation and changes their fields, parts and bytes. A
finding is an exception other than a refusal, accepted bytes that no encoder writes, an input
that takes more than 10 seconds, or more than 2 GiB of memory. The first one ends the run; its
bytes are kept, and `--reproduce` gives them to their target again. Keys are new in each process,
so what `client` and `server` make of a finding may differ then.
"""

import argparse
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from primia_bench.machine import describe_machine, publish

from tests.fuzz.targets import TARGETS

MAX_BYTES = 8192
MAX_MEMORY_MIB = 2048
MAX_SECONDS_OF_ONE = 10
ROOT = Path(__file__).parents[2]


def fuzz(folder: Path, seconds: int) -> tuple[str, bool]:
    """Run a worker; return what it wrote, and whether it found something."""
    options = {
        "max_total_time": seconds,
        "max_len": MAX_BYTES,
        "rss_limit_mb": MAX_MEMORY_MIB,
        "timeout": MAX_SECONDS_OF_ONE,
        "mutate_depth": 2,
        "cross_over": 0,
        "print_final_stats": 1,
        "artifact_prefix": f"{folder}/",
    }
    command = [sys.executable, "-m", "tests.fuzz.worker", str(folder)]
    command += [f"-{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        command,
        cwd=ROOT,
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.stdout, done.returncode != 0


def summary(folder: Path, log: str, *, seconds: int, found: bool) -> dict[str, Any]:
    """Return the figures of a run; edges are branches of the package's bytecode."""
    counts = np.fromfile(folder / "counts", np.uint64).reshape(-1, 2).tolist()
    executions = sum(given for given, _ in counts)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_seconds = used.ru_utime + used.ru_stime
    return {
        "benchmark": "fuzz_wire",
        "settings": {
            "seconds": seconds,
            "max_bytes": MAX_BYTES,
            "max_memory_mib": MAX_MEMORY_MIB,
            "max_seconds_of_one": MAX_SECONDS_OF_ONE,
        },
        "executions": executions,
        "executions_per_second": round(executions / seconds),
        "executions_per_processor_second": round(executions / processor_seconds),
        "crashes": int(found),
        "edges_reached": last(r"cov: (\d+)", log),
        "features": last(r"ft: (\d+)", log),
        "inputs_kept": last(r"corp: (\d+)", log),
        "slowest_seconds": last(r"slowest_unit_time_sec:\s+(\d+)", log),
        "peak_memory_mib": last(r"peak_rss_mb:\s+(\d+)", log),
        "targets": {
            name: {"executions": given, "accepted": accepted}
            for name, (given, accepted) in zip(TARGETS, counts, strict=True)
        },
        "atheris": version("atheris"),
        "machine": describe_machine(),
    }


def last(pattern: str, log: str) -> int | None:
    """Return the last number that matches."""
    numbers = re.findall(pattern, log)
    return int(numbers[-1]) if numbers else None


def reproduce(finding: Path) -> None:
    """Give the bytes of a finding to the target that its file is named after."""
    accepted = TARGETS[finding.stem](finding.read_bytes())
    sys.stdout.write(f"{finding.stem}: {'accepted' if accepted else 'refused'}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    parser.add_argument("--reproduce", type=Path, metavar="FILE", help="a finding of before")
    args = parser.parse_args()
    if args.reproduce:
        reproduce(args.reproduce)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    log, found = fuzz(folder, args.seconds)
    if found:
        sys.stderr.write(f"{log[-6000:]}\nthe finding is in {folder}, as TARGET.bytes\n")
    publish(summary(folder, log, seconds=args.seconds, found=found), args.output)
    if not found:
        shutil.rmtree(folder)
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
