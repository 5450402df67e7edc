"""What it costs that PyTorch's threads wait awake, on a quiet machine and beside other work.

`python -m primia_bench.rounds.waiting` trains one hospital of the demo for a round on two
threads, beside 0 and 2 processes that do nothing but compute: with the threads as they come, and as
`primia_flwr.processes.waiting` has them. Processes of their own; medians of repeats.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from primia_bench.machine import describe_machine, publish
from primia_flwr.config.load import compose_experiment
from primia_flwr.pipeline.baselines.one import data_of, dealt_sites, local, train
from primia_flwr.processes.waiting import waiting_settings

_THREADS = 2
_COMPUTING = "while True: pass"


def in_this_process(cache: str) -> dict[str, Any]:
    """Train one round; the second time, when all is warm."""
    words = ["experiment=demo", f"training.threads={_THREADS}", "federation.rounds=1"]
    experiment = compose_experiment([*words, "training.device=cpu", f"data.cache_dir={cache}"])
    dealt = dealt_sites(experiment)
    name = local(next(iter(dealt.sites)))
    data = data_of(experiment, dealt, name)
    train(experiment, name, data, lambda *_: None)
    began, before = time.monotonic(), time.process_time()
    trained = train(experiment, name, data, lambda *_: None)
    state = b"".join(value.numpy().tobytes() for value in trained.state.values())
    return {
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - before,
        "sha256": hashlib.sha256(state).hexdigest(),
    }


def one_run(settings: dict[str, str], cache: str) -> dict[str, Any]:
    """Measure in a process that has these settings and no others."""
    known = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--cache", cache],
        env={**known, **settings, "OMP_NUM_THREADS": str(_THREADS)},
        check=True,
        stdout=subprocess.PIPE,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Keep so many processes computing beside this one."""
    started = [subprocess.Popen([sys.executable, "-c", _COMPUTING]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def rows(repeats: int, cache: str) -> Iterator[dict[str, Any]]:
    """Measure both ways of waiting, beside nothing and beside two processes."""
    for busy in (0, 2):
        for words, settings in (("as they come", {}), ("soon asleep", waiting_settings())):
            with neighbours(busy):
                runs = [one_run(settings, cache) for _ in range(repeats)]
            figures = {key: median(run[key] for run in runs) for key in ("seconds", "cpu_seconds")}
            rounded = {key: round(value, 2) for key, value in figures.items()}
            bits = sorted({run["sha256"] for run in runs})
            yield {"beside": busy, "threads_wait": words, **rounded, "weights_sha256": bits}


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    parser.add_argument("--cache", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cache:
        print(json.dumps(in_this_process(arguments.cache)))
        return
    with tempfile.TemporaryDirectory(prefix="primia-waiting-") as cache:
        one_run({}, cache)  # draws the images
        found = list(rows(arguments.repeats, cache))
    document = {"benchmark": "waiting", "threads": _THREADS, "rows": found}
    publish(document | {"machine": describe_machine()}, arguments.output)


if __name__ == "__main__":
    main()
