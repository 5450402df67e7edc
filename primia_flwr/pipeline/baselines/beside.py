"""Baselines in processes of their own, side by side: the run waits for them and hears of them."""

import os
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import torch

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import config_hash, to_yaml
from primia_flwr.config.rows import plugin_folders
from primia_flwr.errors import FederationError
from primia_flwr.pipeline.baselines import handed
from primia_flwr.pipeline.baselines.one import Step, Trained
from primia_flwr.processes.children import Child, Children, available_cores, isolated_module
from primia_flwr.processes.cores import SHARE_OF_CORES
from primia_flwr.processes.memory import memory_settings
from primia_flwr.processes.waiting import waiting_settings

FOLDER = "baselines"
"""Of a run, while its baselines are trained side by side."""

_MODULE = "primia_flwr.pipeline.baselines.process"
_LOOK_EVERY = 0.1  # seconds between two looks at the folder


def train_beside(
    experiment: Experiment,
    run_dir: Path,
    names: Sequence[str],
    lanes: Sequence[Sequence[str]],
    step: Step,
) -> Generator[tuple[str, Trained]]:
    """Train baselines, a process for each lane; yields them in the order of `names`.

    What an earlier process of the same run has trained is taken as it is. Who does not take all
    closes the iterator, so that no process goes on.

    Raises
    ------
    PrimiaError
        The first mistake of a process, as it was raised there.
    FederationError
        If one ended without a word.
    """
    folder = run_dir.absolute() / FOLDER  # where the processes are at home
    threads = experiment.training.threads or torch.get_num_threads()
    plugins = [str(one) for one in plugin_folders()]
    decides = {"hash": config_hash(experiment), "plugins": plugins, "threads": threads}
    handed.ask(folder, {**decides, handed.EXPERIMENT: to_yaml(experiment)})
    left = [[name for name in lane if not handed.is_there(folder, name)] for lane in lanes]
    settings = _environment(threads, max(1, available_cores() // len(lanes)))
    with Children() as children:
        running = [
            children.add(_start(folder, number, lane, settings))
            for number, lane in enumerate(left, 1)
            if lane
        ]
        tell = _teller(folder, names, step)
        for name in names:
            _wait(folder, name, running, tell)
            yield name, handed.taken(folder, name)
    shutil.rmtree(folder)


def _environment(threads: int, cores: int) -> dict[str, str]:
    """Return that of each process: as many threads as here, or its last bits would be others."""
    own = {"OMP_NUM_THREADS": str(threads), SHARE_OF_CORES: str(cores)}
    return {**os.environ, **memory_settings(), **waiting_settings(), **own}


def _start(folder: Path, number: int, names: Sequence[str], environment: dict[str, str]) -> Child:
    return Child(
        f"process {number} of the baselines",
        isolated_module(_MODULE, str(folder), *names),
        log_file=folder / f"process-{number}.log",
        environment=environment,
        folder=folder,
    )


def _teller(folder: Path, names: Sequence[str], step: Step) -> Callable[[], None]:
    """Return what tells how far the baselines are, each time that one is further."""
    seen = dict[str, object]()

    def tell() -> None:
        for name in names:
            told = handed.told(folder, name)
            if told is not None and seen.get(name) != told:
                seen[name] = told
                step(name, *told)

    return tell


def _wait(folder: Path, name: str, running: Sequence[Child], tell: Callable[[], None]) -> None:
    """Wait until a baseline is there."""
    while True:
        there = handed.is_there(folder, name)
        tell()
        if there:
            return
        for child in running:
            _check(folder, child)
        time.sleep(_LOOK_EVERY)


def _check(folder: Path, child: Child) -> None:
    """Raise the mistake of a process that has ended with one."""
    code = child.poll()
    if not code:
        return
    raise handed.mistake_in(folder) or FederationError(
        f"{child.name} ended with exit code {code} before all were trained; see {child.log_file}: "
        f"{child.log_tail(1) or '(no output)'}; expected it to train them; resume the run"
    )
