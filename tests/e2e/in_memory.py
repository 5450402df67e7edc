"""`primia train` whose federated part runs in the test's own process: real halves, no Ray.

    python -m tests.e2e.in_memory 2 train experiment=demo

runs so in a process of its own, which is killed as its first site is asked to train in round 2
(0: in none).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

from primia_flwr.cli.main import run as run_command
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import to_yaml
from primia_flwr.config.rows import plugin_folders
from primia_flwr.flower.bundle import stage_bundle
from primia_flwr.pipeline import lost
from primia_flwr.runs.metadata import read_json
from strategies.server_app import run
from tests.e2e.runner import Primia, wait
from tests.remembered import remember
from tests.strategies.conftest import FakeGrid, hasten
from tests.walks.federation import Site

ROOT = Path(__file__).parents[2]


@contextmanager
def without_processes(*, killed_in: int = 0) -> Iterator[None]:
    """Have every simulated run of this process keep to it; all but Flower's programs is real.

    `killed_in`: the round in which this process is killed (SIGKILL); 0 for none.
    """
    with pytest.MonkeyPatch.context() as patch:
        hasten(patch)
        patch.setattr(lost, "launch", partial(_launch, killed_in))
        yield


def in_memory(
    primia: Primia, *arguments: str, killed_in: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run `primia` in one process of its own; `killed_in` as of `without_processes`."""
    return subprocess.run(
        [sys.executable, "-m", "tests.e2e.in_memory", str(killed_in), *arguments],
        cwd=primia.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def killed_in_memory(primia: Primia, run_dir: Path, *arguments: str) -> None:
    """Run `primia` into `run_dir` in one process of its own, and kill it in the second round."""
    done = in_memory(primia, *arguments, f"output_dir={run_dir}", killed_in=2)
    assert done.returncode == -signal.SIGKILL, done.stderr


class _Mortal(Site):
    """A site with which the process dies when it is asked to train in a round.

    The round before has its checkpoint by then, which is written beside the next round.
    """

    dies_in, run_dir = 0, Path()

    def answer(self, message: Message) -> Message | None:
        if message.metadata.message_type == "train" and len(self.sent) + 1 == self.dies_in:
            wait(lambda: list((self.run_dir / "checkpoints").glob("checkpoint-[0-9]*")))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().answer(message)


def _launch(
    killed_in: int, experiment: Experiment, folder: Path, watch: Callable[[], None]
) -> dict[str, Any]:
    if plugin_folders():
        stage_bundle(folder / "flower" / "app")
    text, count = to_yaml(experiment), len(experiment.federation.sites)
    sites: Any = {index + 1: _Mortal(text, index, sites=count) for index in range(count)}
    sites[1].dies_in, sites[1].run_dir = killed_in, folder
    run(experiment, FakeGrid(sites), folder, flower_run=1)
    watch()
    return dict(read_json(folder / "result.json"))


if __name__ == "__main__":
    remember()
    with without_processes(killed_in=int(sys.argv[1])):
        sys.exit(run_command(sys.argv[2:]))
