"""Flower's simulation engine behind a SuperLink of our own, for the length of one run.

`flwr run . local` would start a managed SuperLink that stays behind as a daemon. Here the
SuperLink is a child of the launcher, listens on a free loopback port, keeps everything in
the run's folder, and ends with the run.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from primia_flwr.flower.command import Connection
from primia_flwr.flower.shares import Shares
from primia_flwr.processes.children import (
    Child,
    flower_environment,
    free_port,
    is_listening,
    isolated_module,
    wait_until,
)
from primia_flwr.processes.cores import SHARE_OF_CORES
from primia_flwr.processes.programs import flower_program

_POLLS = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5"}  # seconds; Flower's default is 1


def _shared(ray_folder: str, shared: Shares) -> dict[str, str]:
    return {
        "RAY_TMPDIR": ray_folder,
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": str(shared.cores),
        SHARE_OF_CORES: str(shared.cores),
        **shared.visible,
    }


@contextmanager
def simulation_superlink(folder: Path, shared: Shares) -> Iterator[Connection]:
    """Start a SuperLink with the simulation runtime and stop it at the end.

    Parameters
    ----------
    folder : Path
        Where Flower keeps its files and its log.
    shared : Shares
        The cores and GPUs that each simulated site may use.
    """
    port, home = free_port(), folder / "home"
    connection = Connection(home, f"127.0.0.1:{port}")
    connection.write()
    # Ray's sockets need a short path (107 bytes), so its folder cannot be the run's.
    ray_folder = tempfile.mkdtemp(prefix="primia-ray-")
    environment = flower_environment(home) | _POLLS | _shared(ray_folder, shared)
    command = isolated_module(
        "primia_flwr.processes.guardian",
        ray_folder,
        flower_program("flower-superlink"),
        *("--simulation", "--insecure", "--host", "127.0.0.1", "--port", str(port)),
        "--disable-runtime-dependency-installation",
    )
    log_file = folder / "superlink.log"
    child = Child("SuperLink", command, log_file=log_file, environment=environment, folder=folder)
    try:
        wait_until(
            lambda: is_listening("127.0.0.1", port),
            what="the SuperLink's start",
            timeout=60,
            child=child,
        )
        yield connection
    finally:
        child.stop(patience=20.0)
