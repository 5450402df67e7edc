"""Seconds from a mistake at the command line to its sentence, each in a process of its own.

By the clock and of the processor: the latter counts where others use the machine.

    python -m primia_bench.cli.time_mistakes --output results.json
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from primia_bench.cli.mistakes import LIBRARY_TEXT, MISTAKES, prepare
from primia_bench.machine import describe_machine, publish

_LIMIT = 2.0


def answer(arguments: tuple[str, ...], folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "primia_flwr.cli.main", *arguments]
    begun, before = time.perf_counter(), _processor_seconds()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    processor = _processor_seconds() - before
    lines = done.stderr.splitlines()
    plain = len(lines) == 1 and not any(word in lines[0].casefold() for word in LIBRARY_TEXT)
    ok = plain and done.returncode == 2
    return {
        "words": " ".join(arguments),
        "seconds": round(seconds, 2),
        "processor_seconds": round(processor, 2),
        "one_sentence": ok,
    }


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", default="")
    arguments = parser.parse_args()
    root = str(Path(__file__).parents[3])
    os.environ["PYTHONPATH"] = os.pathsep.join((root, os.environ.get("PYTHONPATH", "")))
    os.environ.pop("WANDB_API_KEY", None)
    with TemporaryDirectory() as folder:
        prepare(Path(folder))
        os.environ["HOME"] = folder
        answers = [answer(words, Path(folder)) for words, _ in MISTAKES]
    seconds, processor = ([one[k] for one in answers] for k in ("seconds", "processor_seconds"))
    publish(
        {
            "machine": describe_machine(),
            "mistakes": len(answers),
            "median_seconds": statistics.median(seconds),
            "slowest_seconds": max(seconds),
            "median_processor_seconds": statistics.median(processor),
            "slowest_processor_seconds": max(processor),
            f"above_{_LIMIT:g}_seconds": sum(one > _LIMIT for one in seconds),
            "not_one_sentence": [one["words"] for one in answers if not one["one_sentence"]],
            "answers": answers,
        },
        arguments.output,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
