"""`primia site log`: who asked for what, when, and what left the house."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from primia_flwr.cli.command import Command
from primia_flwr.config.checks import check_range
from primia_flwr.site.log import LogEntry, SiteLog
from primia_flwr.site.policy import load_policy
from primia_flwr.storage.printable import printable

_LONGEST = 4000
_COLOURS = {"refused": "red", "accepted": "green", "left": "yellow", "approved": "cyan"}


@dataclass
class _LogArguments:
    """Arguments of `primia site log`: how many of the newest entries to show."""

    site: str = "site.yaml"
    last: int = 30
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("last", self.last, 1, 1_000_000, example=30)


def _table(title: str, entries: Sequence[LogEntry]) -> Table:
    columns = (Column(name, overflow="fold") for name in ("#", "time (UTC)", "event", "details"))
    table = Table(*columns, title=title)
    for entry in entries:
        details = ", ".join(f"{key}={value}" for key, value in entry.details.items())
        event = Text(_safe(entry.event), style=_COLOURS.get(entry.event, "white"))
        time = Text(_safe(entry.time[:19]))
        table.add_row(str(entry.number), time, event, Text(_safe(details)))
    return table


def _run(cfg: _LogArguments) -> dict[str, Any]:
    """Check the whole log, print its newest entries, and return counts and the last hash."""
    policy = load_policy(Path(cfg.site))
    entries = list(SiteLog(policy.log_file).entries())
    title = f"Log of site {policy.site}, {len(entries)} entries, chain unbroken"
    Console(stderr=cfg.quiet, emoji=False).print(_table(title, entries[-cfg.last :]))
    left = [entry.details for entry in entries if entry.event == "left"]
    return {
        "site": policy.site,
        "entries": len(entries),
        "refused": sum(entry.event == "refused" for entry in entries),
        "messages_left": len(left),
        "bytes_left": sum(_bytes(details) for details in left),
        "last_hash": entries[-1].hash if entries else "",
    }


def _safe(text: str) -> str:
    """Return text of the log for a terminal; lines of an older version may hold anything."""
    return printable(text, limit=_LONGEST)


def _bytes(details: dict[str, Any]) -> int:
    size = details.get("bytes")
    return size if isinstance(size, int) else 0


COMMAND = Command(
    words=("site", "log"),
    summary="show the append-only log and check that nobody changed it",
    examples=("primia site log", "primia site log last=200"),
    config_name="commands/site/log",
    schema=_LogArguments,
    run=_run,
)
