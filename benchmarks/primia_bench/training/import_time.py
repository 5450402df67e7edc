"""Seconds until a program says or can do something, of two checkouts side by side.

    python -m primia_bench.training.import_time --before /tmp/old --output import_time.json

A SuperNode starts a process for each message, so what a message imports is paid again and again;
at a site (`primia site run`) that process is forked from one that has imported most of it. The
checkouts take turns; each number is a median, with the ratio of the medians beside it.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from primia_bench.machine import describe_machine, publish

_PRIMIA = ("-m", "primia_flwr.cli.main")
_APP = "import clients.client_app"
# The handler, a ResNet-18 and an optimiser, which import more as they are made.
_TRAIN = """
import importlib.util, inspect
import clients.client_app
handlers = importlib.util.find_spec("clients.handlers")
importlib.import_module("clients.handlers.train" if handlers else "clients.answers")
import torch
from primia_flwr.config import load
from primia_flwr.models import build_model
width = {"outputs", "num_classes"} & set(inspect.signature(build_model).parameters)
model = build_model(load.Experiment().model, channels=1, seed=1, **{width.pop(): 3})
torch.optim.Adam(model.parameters())
"""
# As the site's executor does it for a bundle of the installed version: import what it preloads,
# fork, import the app; a checkout without `own_app` drops its own modules before.
_SITE = f"""
import importlib, os, sys, time
from primia_flwr.site import executor
for name in executor.PRELOADED:
    importlib.import_module(name)
if 'primia_flwr.site.bundle.own_app' not in sys.modules:
    for name in [n for n in sys.modules if n.split('.')[0] == 'primia_flwr']:
        del sys.modules[name]
if os.fork():
    os.wait()
else:
    started, used = time.perf_counter(), time.process_time()
    exec({_TRAIN!r})
    print(time.perf_counter() - started, time.process_time() - used, flush=True)
    os._exit(0)
"""
WHOLE = {
    "python alone": ("-c", "pass"),
    "import clients.client_app": ("-c", _APP),
    "imports of a train message": ("-c", _TRAIN),
    "primia --help": (*_PRIMIA, "--help"),
    "primia train --help": (*_PRIMIA, "train", "--help"),
    "primia data check --help": (*_PRIMIA, "data", "check", "--help"),
    "primia site check --help": (*_PRIMIA, "site", "check", "--help"),
}
FIRST_WORDS = (*_PRIMIA, "train", "experiment=demo")
SITE = "imports of a train message at a site, after the fork"
SAYS = "primia train experiment=demo: first words"


def start(checkout: Path, words: tuple[str, ...], folder: str) -> subprocess.Popen[bytes]:
    """Start Python on a checkout, in a folder of its own, with one thread."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


Seconds = tuple[float, float]  # of the clock, and of the processor


def whole(checkout: Path, words: tuple[str, ...]) -> Seconds:
    """Return what a program takes from its start to its end."""
    return _timed(checkout, words, until_words=False)


def first_words(checkout: Path, words: tuple[str, ...]) -> Seconds:
    """Return what a program takes until it says anything; it is stopped then."""
    return _timed(checkout, words, until_words=True)


def _timed(checkout: Path, words: tuple[str, ...], *, until_words: bool) -> Seconds:
    with tempfile.TemporaryDirectory(prefix="import-time-") as folder:
        before, started = _processor_seconds(), time.perf_counter()
        process = start(checkout, words, folder)
        assert process.stdout is not None
        said = process.stdout.read(1 if until_words else -1)
        seconds = time.perf_counter() - started
        if until_words:
            process.terminate()
        if process.wait() and not until_words:
            raise SystemExit(said.decode(errors="replace"))
        process.stdout.close()
        return seconds, _processor_seconds() - before


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def after_fork(checkout: Path) -> Seconds:
    """Return what the process of a message takes to import the app."""
    with tempfile.TemporaryDirectory(prefix="import-time-") as folder:
        said, _ = start(checkout, ("-c", _SITE), folder).communicate()
        clock, processor = said.split()[-2:]
        return float(clock), float(processor)


def largest(checkout: Path, words: tuple[str, ...]) -> dict[str, float]:
    """Return the top-level packages by the milliseconds of their own modules (-X importtime)."""
    with tempfile.TemporaryDirectory(prefix="import-time-") as folder:
        said, _ = start(checkout, ("-X", "importtime", *words), folder).communicate()
    found: dict[str, float] = {}
    for line in said.decode(errors="replace").splitlines():
        head, _, rest = line.partition("import time:")
        parts = rest.split("|")
        if not head and len(parts) == 3 and parts[0].strip().isdigit():
            package = parts[2].strip().split(".")[0]
            found[package] = found.get(package, 0.0) + int(parts[0]) / 1000
    best = sorted(found.items(), key=lambda item: -item[1])[:10]
    return {name: round(value, 1) for name, value in best}


def measure(checkouts: dict[str, Path], repeats: int) -> dict[str, Any]:
    """Measure everything `repeats` times, the checkouts taking turns."""
    taken: dict[str, dict[str, list[Seconds]]] = {}
    for _ in range(repeats):
        for side, checkout in checkouts.items():
            of_side = {name: whole(checkout, words) for name, words in WHOLE.items()}
            of_side[SITE] = after_fork(checkout)
            of_side[SAYS] = first_words(checkout, FIRST_WORDS)
            for name, seconds in of_side.items():
                taken.setdefault(name, {}).setdefault(side, []).append(seconds)
    return {name: _row(sides) for name, sides in taken.items()}


def _row(sides: dict[str, list[Seconds]]) -> dict[str, Any]:
    """Return medians and ratios; of a busy machine the processor's seconds say more."""
    row: dict[str, Any] = {}
    for at, kind in enumerate(("clock", "processor")):
        medians = {side: statistics.median(v[at] for v in values) for side, values in sides.items()}
        row[kind] = {side: round(value, 3) for side, value in medians.items()}
        row[kind]["before/after"] = round(medians["before"] / medians["after"], 2)
    return row


def main() -> None:
    """Measure two checkouts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--before", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--after", type=Path, default=Path(__file__).parents[3], metavar="FOLDER")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    arguments = parser.parse_args()
    checkouts = {"before": arguments.before.resolve(), "after": arguments.after.resolve()}
    seconds = measure(checkouts, arguments.repeats)
    packages = {
        name: {side: largest(path, WHOLE[name]) for side, path in checkouts.items()}
        for name in ("import clients.client_app", "imports of a train message")
    }
    document = {
        "benchmark": "import_time",
        "machine": describe_machine(),
        "seconds": seconds,
        "milliseconds_by_package": packages,
    }
    publish(document, arguments.output)


if __name__ == "__main__":
    main()
