"""`primia runs list`: the runs of this folder, and those at a federation's SuperLink."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from primia_flwr.cli.command import Command
from primia_flwr.cli.federation.status import deployment_of
from primia_flwr.pipeline.known_runs import INTERRUPTED, KnownRun, find_runs
from primia_flwr.provisioning.nodes import runs_at

_COLOURS = {"running": "green", "finished": "cyan", "failed": "red", INTERRUPTED: "yellow"}


@dataclass
class _ListArguments:
    """Arguments of `primia runs list`; `name`: a federation whose SuperLink is asked, too."""

    root: str = "outputs"
    name: str = ""
    quiet: bool = False


def _run(cfg: _ListArguments) -> dict[str, Any]:
    """Print a line for each run, the newest first, and return them."""
    known = find_runs(Path(cfg.root))
    there = _at_superlink(cfg.name) if cfg.name else {}
    runs = [run.to_dict() for run in known]
    for run in runs:
        if run["run_id"] in there and run["federation"] == cfg.name:
            run["superlink"] = there.pop(run["run_id"])
    runs += [{"run": "", "run_id": number, "superlink": status} for number, status in there.items()]
    _print(runs, known, cfg, Console(stderr=cfg.quiet, emoji=False))
    return {"runs": runs}


def _at_superlink(name: str) -> dict[str, str]:
    """Return the status of each run at a federation's SuperLink, by number."""
    section = deployment_of(name)
    return runs_at(section.superlink, Path(section.root_certificates), name)


def _cells(run: dict[str, Any]) -> list[str]:
    status = str(run.get("status", ""))
    return [
        escape(run["run"] or f"run {run['run_id']}, without a folder here"),
        escape(str(run.get("name", ""))),
        f"[{_COLOURS.get(status, 'white')}]{escape(status)}[/]",
        f"{run['rounds']}/{run['of']}" if "of" in run else "",
        str(run.get("started", ""))[:19],
    ]


def _print(
    runs: list[dict[str, Any]], known: list[KnownRun], cfg: _ListArguments, console: Console
) -> None:
    table = Table(title=f"{len(known)} runs below {cfg.root}")
    columns = ["run", "name", "status", "rounds", "started", *(["SuperLink"] if cfg.name else [])]
    for column in columns:
        table.add_column(column, overflow="fold")
    for run in runs:
        table.add_row(*_cells(run), *([str(run.get("superlink", ""))] if cfg.name else []))
    console.print(table)
    for one in known:
        if one.status == INTERRUPTED:
            console.print(
                f"go on with primia train resume={one.folder}", soft_wrap=True, highlight=False
            )


COMMAND = Command(
    words=("runs", "list"),
    summary=(
        "show the runs below outputs/: running, finished, failed, stopped or interrupted (nobody "
        "works on it here any more), and with name= what the federation's SuperLink says of them"
    ),
    examples=(
        "primia runs list",
        "primia runs list name=fl",
        "primia runs list root=/data/outputs",
    ),
    config_name="commands/runs/list",
    schema=_ListArguments,
    run=_run,
    positional="root",
)
