"""The site's executor: asks the SuperNode for work and starts the gate for each message.

It is Flower's own SuperExec with another way to start a task: a process of its own that runs
`primia_flwr.site.gate`. The SuperNode runs with `--isolation process`: without this executor
nothing at all is started, so that a failure here keeps the door shut.

Each message's process is forked from a server that has imported the hospital's own libraries
and no code of a bundle. Importing them anew would take three seconds for every message.
"""

import argparse
import contextlib
import importlib
import multiprocessing
import os
import time
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult

from primia_flwr.errors import FederationError
from primia_flwr.processes.pace import listen
from primia_flwr.site.gate import answer, check_flower
from primia_flwr.site.policy import load_policy
from primia_flwr.site.straggler import MARK
from primia_flwr.site.supernode import BELL

# By name: packages of Flower export functions that are called like their modules.
_superexec_runtime = importlib.import_module("flwr.supercore.superexec.run_superexec")

# An agent task has no place at a hospital; the gate answers it with a refusal, since a task
# that nobody takes would block the SuperNode.
_GATED_TASKS = frozenset({TaskType.CLIENT_APP, TaskType.AGENT_APP})
_PATIENCE = 10.0  # seconds that a gate has to end
PRELOADED = ["primia_flwr.site.preloaded"]


class GateExecutor:
    """Flower's executor protocol; every launch is a gate process."""

    def __init__(self, policy_file: Path) -> None:
        self._policy_file = policy_file
        state = load_policy(policy_file).state_folder
        self._work, self._mark = state / "work", state / MARK
        self._work.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._server = multiprocessing.get_context("forkserver")
        self._server.set_forkserver_preload(PRELOADED)
        forkserver.ensure_running()
        self._running: dict[ForkServerProcess, float] = {}

    def get_eligible_capacity(
        self, supported_task_types: set[TaskType], **_: Any
    ) -> tuple[set[TaskType], set[str]]:
        """Return the task types that the gate can answer."""
        return supported_task_types & _GATED_TASKS, set()

    def wait_for_capacity(self, task_type: TaskType | None = None, **_: Any) -> None:
        """Return at once: a SuperNode hands out one message at a time."""

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """Start the gate for one message."""
        if spec.task_type not in _GATED_TASKS:
            return LaunchResult.failed(f"task type {spec.task_type} is not answered at this site")
        arguments = [
            *("--runtime-api-address", spec.runtime_api_address),
            *("--token", spec.token),
            "--insecure",  # loopback only, see primia_flwr/site/run.py
            *("--parent-pid", str(os.getpid())),
        ]
        process = self._server.Process(
            target=answer, args=(arguments, self._policy_file, self._work)
        )
        started = time.time()
        process.start()
        self._running[process] = started
        return LaunchResult.accepted()

    def reconcile(self) -> None:
        """Collect the exit codes of finished gates; end those whose work was given up."""
        self._running = {one: at for one, at in self._running.items() if one.exitcode is None}
        with contextlib.suppress(FileNotFoundError):
            given_up = self._mark.stat().st_mtime
            for process, started in self._running.items():
                if started < given_up:
                    process.terminate()
                    process.join(_PATIENCE)
                    process.kill()
            self._mark.unlink()

    def close(self) -> None:
        """End what still runs."""
        for process in self._running:
            process.terminate()


def use_gate(policy_file: Path, runtime: ModuleType = _superexec_runtime) -> None:
    """Let Flower's SuperExec start tasks through the gate.

    Raises
    ------
    FederationError
        If this Flower's SuperExec does not choose its executor where it did.
    """
    check_flower()
    code = getattr(getattr(runtime, "run_superexec", None), "__code__", None)
    if code is None or "get_executor" not in code.co_names or not hasattr(runtime, "get_executor"):
        raise FederationError(
            "flwr's run_superexec no longer asks get_executor for its executor; expected flwr "
            "1.41 or 1.42; install a version of primia-flwr that was tried with this flwr"
        )
    executor = GateExecutor(policy_file)
    runtime.get_executor = lambda *_, **__: executor  # type: ignore[attr-defined]


def main() -> None:
    """Run the executor until its parent ends."""
    parser = argparse.ArgumentParser(description="The executor of a site (started by primia)")
    parser.add_argument("--policy", type=Path, required=True)
    parser.add_argument("--runtime-api-address", required=True)
    parser.add_argument("--secret-file", type=Path, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    args = parser.parse_args()
    use_gate(args.policy)
    listen(_superexec_runtime, load_policy(args.policy).state_folder / BELL)
    _superexec_runtime.run_superexec(
        runtime_api_address=args.runtime_api_address,
        insecure=True,
        superexec_auth_secret=args.secret_file.read_bytes(),
        parent_pid=args.parent_pid,
        runtime_dependency_install=False,
    )
