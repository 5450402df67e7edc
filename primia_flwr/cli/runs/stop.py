"""`primia runs stop`: end a run, at the sites too; it can be resumed."""

import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.cli.federation.status import deployment_of
from primia_flwr.config.checks import check_range
from primia_flwr.errors import ConfigError, FederationError
from primia_flwr.pipeline.known_runs import KnownRun, known_run
from primia_flwr.provisioning.nodes import FINISHED, runs_at, stop_run

_LOOK_EVERY = 0.2


@dataclass
class _StopArguments:
    """Arguments of `primia runs stop`: a folder, or a number at the SuperLink of `name`.

    `wait`: seconds that the run has to end.
    """

    run: str = ""
    name: str = ""
    wait: float = 180.0
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("wait", self.wait, 1, 3600, example=180)


def _run(cfg: _StopArguments) -> dict[str, Any]:
    """Stop the process that watches the run, or the run at the SuperLink where there is none."""
    if not cfg.run:
        raise ConfigError("run=''; expected the folder of a run; primia runs list shows them")
    if cfg.name:
        return _by_number(cfg)
    run = known_run(Path(cfg.run))
    by = _stop_process(run, cfg.wait) or _stop_at_superlink(run)
    if not by:
        raise FederationError(
            f"run={run.folder} is {run.status}; expected a run that goes on; primia runs list "
            "shows which do"
        )
    Console(stderr=cfg.quiet, emoji=False).print(
        f"stopped {by}; no site goes on; go on with primia train resume={run.folder}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    return {"run": str(run.folder), "stopped": by, "run_id": str(run.run_id or "")}


def _by_number(cfg: _StopArguments) -> dict[str, Any]:
    """Stop a run of which there is no folder here."""
    if not re.fullmatch(r"[0-9]{1,20}", cfg.run):
        raise ConfigError(
            f"run={cfg.run} with name={cfg.name}; expected the run's number at the SuperLink, as "
            f"primia runs list name={cfg.name} shows it; leave name out for a folder"
        )
    section = deployment_of(cfg.name)
    ca = Path(section.root_certificates)
    stop_run(section.superlink, ca, cfg.name, int(cfg.run))
    Console(stderr=cfg.quiet, emoji=False).print("stopped at the SuperLink; no site goes on")
    return {"run": "", "stopped": "at the SuperLink", "run_id": cfg.run}


def _stop_process(run: KnownRun, wait: float) -> str:
    """Stop `primia train` as Ctrl-C would: it stops the run at the SuperLink itself."""
    process = run.submitted.process() if run.submitted and run.status == "running" else None
    if process is None:
        return ""
    try:
        os.kill(process.pid, signal.SIGINT)
    except PermissionError:
        raise FederationError(
            f"run={run.folder} is watched by process {process.pid} of another account; expected "
            "one of yours; run the command as the account that started the run"
        ) from None
    end = time.monotonic() + wait
    while run.submitted and run.submitted.process() and time.monotonic() < end:
        time.sleep(_LOOK_EVERY)
    if run.submitted and run.submitted.process():
        raise FederationError(
            f"run={run.folder}: process {process.pid} was told to stop and has not ended after "
            f"wait={wait:g} s; expected it to; wait longer, or end it with kill {process.pid}"
        )
    return "the process that watched it"


def _stop_at_superlink(run: KnownRun) -> str:
    """Stop a run whose process here has gone, if it still goes on at the sites."""
    section = run.deployment
    place = (section.superlink, Path(section.root_certificates), section.name)
    if not run.federation or not run.run_id or run.status == "finished":
        return ""
    if runs_at(*place).get(str(run.run_id), FINISHED).startswith(FINISHED):
        return ""
    stop_run(*place, run.run_id)
    return "at the SuperLink"


COMMAND = Command(
    words=("runs", "stop"),
    summary=(
        "stop a run as Ctrl-C would, at the sites too; what is done stays, and the run can be "
        "resumed"
    ),
    examples=(
        "primia runs stop outputs/2026-11-21/12-00-00-pneumonia",
        "primia runs stop 1602341347 name=fl",
    ),
    config_name="commands/runs/stop",
    schema=_StopArguments,
    run=_run,
    positional="run",
)
