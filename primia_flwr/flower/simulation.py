"""Flower's simulation engine behind a SuperLink of our own, for the length of one run.

`flwr run . local` would start a managed SuperLink that stays behind as a daemon. Here the
SuperLink is a child of the launcher, listens on a free loopback port, keeps everything in
the run's folder, and ends with the run.
"""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.flower.command import Connection
from primia_flwr.processes.children import (
    Child,
    available_cores,
    flower_environment,
    free_port,
    is_listening,
    isolated_module,
    wait_until,
)
from primia_flwr.processes.programs import flower_program


@contextmanager
def simulation_superlink(folder: Path, *, threads: int) -> Iterator[Connection]:
    """Start a SuperLink with the simulation runtime and stop it at the end.

    Parameters
    ----------
    folder : Path
        Where Flower keeps its files and its log.
    threads : int
        CPU threads that each simulated site may use, at least 1.
    """
    port, home = free_port(), folder / "home"
    connection = Connection(home, f"127.0.0.1:{port}")
    connection.write()
    # Ray's sockets need a short path (107 bytes), so its folder cannot be the run's.
    ray_folder = tempfile.mkdtemp(prefix="primia-ray-")
    environment = flower_environment(home) | {
        "RAY_TMPDIR": ray_folder,
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": str(threads),
    }
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


def concurrent_sites(federation: FederationConfig, cores: int | None = None) -> tuple[int, int]:
    """Return how many simulated sites train at once, and the CPU cores each may use.

    n at once on c cores take ceil(sites / n) turns of c // n cores each; the n with the least
    turns per core wins, and of equals the largest, because one core trains a small model with
    less waste than two. For 3 sites on 2 cores: one at a time; for 10 sites: two.
    """
    cores, sites = cores or available_cores(), len(federation.sites)
    if federation.cpus_per_site:
        each = min(federation.cpus_per_site, cores)
        return max(1, cores // each), each
    turns = {n: math.ceil(sites / n) / (cores // n) for n in range(1, min(cores, sites) + 1)}
    at_once = max(n for n, value in turns.items() if value == min(turns.values()))
    return at_once, cores // at_once


def federation_options(federation: FederationConfig) -> str:
    """Return Flower's options for a simulated federation, as `--federation-config` takes them."""
    at_once, each = concurrent_sites(federation)
    options = {
        "num-supernodes": len(federation.sites),
        "client-resources-num-cpus": each,
        "init-args-num-cpus": at_once * each,
        "init-args-log-to-driver": "true",
    }
    if federation.gpus_per_site:
        options["client-resources-num-gpus"] = federation.gpus_per_site
    return " ".join(f"{key}={value}" for key, value in options.items())
