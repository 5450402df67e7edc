"""Run one experiment: submit it to a SuperLink, watch it, and bring its result home.

The launcher and the ServerApp speak through files of the run folder: `events.jsonl` as the
run goes, `result.json` when it is done, `error.json` when it could not. So the launcher may
die and the run goes on, and a run looks the same in simulation and at real sites.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import to_yaml
from primia_flwr.errors import FederationError, PrimiaError
from primia_flwr.flower.bundle import Bundle, stage_bundle
from primia_flwr.flower.command import CONNECTION, Connection, write_run_config
from primia_flwr.flower.shares import shares
from primia_flwr.flower.simulation import simulation_superlink
from primia_flwr.flower.submitted import Submitted
from primia_flwr.processes.children import Child, Children, flower_environment
from primia_flwr.processes.programs import flower_program
from primia_flwr.storage.reading import parse_json, read_text, reading

_RESULT_FILE, _ERROR_FILE = "result.json", "error.json"
_LOOK_EVERY = 0.3  # seconds between two looks at the run folder
# Seconds between two questions to the SuperLink, each a process: while Flower's log, which
# ends with the run, still comes, and after it has ended.
_ASK_BESIDE_LOG, _ASK_EVERY = 120.0, 3.0
_LAST_LINES = 8.0  # seconds that Flower's log may take to end after the run


class RunStopped(PrimiaError):  # noqa: N818 - a decision, not an error
    """Raised by a watcher to end a run early; `facts` are what run.json shall say of it."""

    def __init__(self, reason: str, facts: dict[str, Any]) -> None:
        super().__init__(reason)
        self.facts = facts


def launch(experiment: Experiment, run_dir: Path, watch: Callable[[], None]) -> dict[str, Any]:
    """Run the federated part of an experiment and return the content of `result.json`.

    Parameters
    ----------
    experiment : Experiment
        Resolved and checked; `output_dir` is `run_dir`.
    run_dir : Path
        The run's folder; Flower's own files go into its folder `flower`.
    watch : callable
        Called a few times a second while the run goes on.

    Raises
    ------
    RunStopped
        If `watch` raises it. After it, as after Ctrl-C, the SuperLink has been told to stop the
        run, so that no site goes on.
    FederationError
        If the run fails, or another process already works in `run_dir`.
    """
    with _only_one(run_dir):
        for name in (_RESULT_FILE, _ERROR_FILE):
            (run_dir / name).unlink(missing_ok=True)
        folder = run_dir / "flower"
        folder.mkdir(exist_ok=True)
        Submitted.by_this_process().write(folder)
        bundle = stage_bundle(folder / "app")
        deployment = replace(experiment.deployment, bundle=bundle.sha256)
        sent = to_yaml(replace(experiment, deployment=deployment))
        write_run_config(folder / "run-config.toml", sent)
        with _superlink(experiment, folder) as (connection, options):
            return _run(connection, bundle, run_dir, options, watch)


def _run(
    connection: Connection, bundle: Bundle, run_dir: Path, options: str, watch: Callable[[], None]
) -> dict[str, Any]:
    run_id = connection.submit(
        bundle.folder, run_dir / "flower" / "run-config.toml", federation_options=options
    )
    Submitted.by_this_process(run_id).write(run_dir / "flower")
    command = [flower_program("flwr"), "log", str(run_id), CONNECTION, "--stream"]
    file, known = run_dir / "logs" / "flower.log", flower_environment(connection.home)
    child = Child("log", command, log_file=file, environment=known, folder=run_dir)
    with Children() as children:
        log = children.add(child)
        try:
            return _wait(connection, run_id, run_dir, watch, log)
        except (RunStopped, KeyboardInterrupt):
            with contextlib.suppress(FederationError):
                connection.call("stop", str(run_id), CONNECTION)
            raise
        finally:
            _let_end(log)


def _let_end(log: Child) -> None:
    """Give the log stream time to bring the last lines: it ends when the run has ended."""
    deadline = time.monotonic() + _LAST_LINES
    while log.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)


def _wait(
    connection: Connection, run_id: int, run_dir: Path, watch: Callable[[], None], log: Child
) -> dict[str, Any]:
    asked = time.monotonic()
    while True:
        watch()
        result = _outcome(run_dir)
        if result is not None:
            return result
        pause = _ASK_BESIDE_LOG if log.poll() is None else _ASK_EVERY
        if time.monotonic() - asked > pause:
            asked = time.monotonic()
            _check_alive(connection, run_id, run_dir)
        time.sleep(_LOOK_EVERY)


def _outcome(run_dir: Path) -> dict[str, Any] | None:
    """Return the result once it is there; raise the error once there is one."""
    if (run_dir / _ERROR_FILE).exists():
        raise FederationError(_read(run_dir / _ERROR_FILE)["error"])
    if (run_dir / _RESULT_FILE).exists():
        return _read(run_dir / _RESULT_FILE)
    return None


def _check_alive(connection: Connection, run_id: int, run_dir: Path) -> None:
    """Refuse to wait for a run that Flower has given up; a silent SuperLink may come back."""
    try:
        status = connection.status(run_id)
    except FederationError:
        return
    if status.startswith("finished") and _outcome(run_dir) is None:
        raise FederationError(
            f"the run ended as {status} without a result; see {run_dir / 'logs' / 'flower.log'}; "
            f"{_how_to_go_on(run_dir)}"
        )


def _how_to_go_on(run_dir: Path) -> str:
    if any(run_dir.glob("checkpoints/checkpoint-*")):
        return f"go on from its last checkpoint with primia train resume={run_dir}"
    return "there is no checkpoint yet, so start the run anew"


@contextmanager
def _superlink(experiment: Experiment, folder: Path) -> Iterator[tuple[Connection, str]]:
    if experiment.deployment.kind == "simulation":
        shared = shares(experiment)
        with simulation_superlink(folder, shared) as connection:
            yield connection, shared.options(len(experiment.federation.sites))
        return
    deployment = experiment.deployment
    connection = Connection(
        folder / "home", deployment.superlink, Path(deployment.root_certificates)
    )
    connection.write()
    yield connection, ""


@contextmanager
def _only_one(run_dir: Path) -> Iterator[None]:
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run_dir / ".lock", timeout=0):
            yield
    except Timeout:
        raise FederationError(
            f"{run_dir} is in use by another primia train; wait for it, or start a new run"
        ) from None


def _read(path: Path) -> dict[str, Any]:
    expected = "what the run wrote; resume the run"
    with reading(path, error=FederationError, expected=expected):
        value = parse_json(read_text(path), finite=False)
    return value if isinstance(value, dict) else {}
