"""What a model costs a message beside training: building, packing, unpacking, with buffers kept.

Each pair is measured in processes of its own, one with the environment that long-lived processes
get (`primia_flwr.processes.memory`) and one without; medians of repeats. ResNet-18, 45 MB.

    python -m primia_bench.rounds.model_costs --output results/model_costs.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from primia_bench.machine import describe_machine, publish
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.messages.packing import pack, unpack
from primia_flwr.messages.records import to_arrays
from primia_flwr.models import build_model
from primia_flwr.models.empty import empty_model
from primia_flwr.processes.memory import memory_settings

REPEATS = 15
_RESNET = ModelConfig(name="resnet18")


def milliseconds(work: Callable[[], object]) -> float:
    """Return the median of some calls, the first left out."""
    work()
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        found.append(1e3 * (time.perf_counter() - began))
    return round(statistics.median(found), 1)


def measured() -> dict[str, float]:
    """Return milliseconds of each step in this process."""
    model = build_model(_RESNET, outputs=3, channels=1, seed=1)
    arrays = to_arrays(model.state_dict())
    packed = pack(arrays)
    return {
        "build_with_first_weights": milliseconds(
            lambda: build_model(_RESNET, outputs=3, channels=1, seed=1)
        ),
        "build_empty": milliseconds(lambda: empty_model(_RESNET, outputs=3, channels=1)),
        "pack": milliseconds(lambda: pack(arrays)),
        "unpack": milliseconds(lambda: unpack(packed)),
    }


def in_process(settings: dict[str, str]) -> dict[str, Any]:
    """Return what a process with such an environment measures."""
    command = [sys.executable, "-m", "primia_bench.rounds.model_costs", "--inside"]
    known = {name: value for name, value in os.environ.items() if name not in memory_settings()}
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**known, **settings}
    )
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--inside", action="store_true", help="measure in this process alone")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(measured()))
        return
    result = {
        "benchmark": "model_costs",
        "milliseconds": {
            "buffers_given_back": in_process({}),
            "buffers_kept": in_process(memory_settings()),
        },
        "machine": describe_machine(),
    }
    publish(result, given.output)


if __name__ == "__main__":
    main()
