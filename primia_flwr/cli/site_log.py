"""`primia site log`: who asked for what, when, and what left the house."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from primia_flwr.cli.verb import Verb
from primia_flwr.config.checks import check_range
from primia_flwr.site.policy import load_policy
from primia_flwr.site.site_log import SiteLog

_COLOURS = {"refused": "red", "accepted": "green", "left": "yellow", "approved": "cyan"}


@dataclass
class LogArguments:
    """Arguments of `primia site log`: how many of the newest entries to show."""

    site: str = "site.yaml"
    last: int = 30
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("last", self.last, 1, 1_000_000, example=30)


def run(cfg: LogArguments) -> dict[str, Any]:
    """Check the whole log, print its newest entries, and return counts and the last hash."""
    policy = load_policy(Path(cfg.site))
    entries = list(SiteLog(policy.log_file).entries())
    table = Table(title=f"Log of site {policy.site}, {len(entries)} entries, chain unbroken")
    for column in ("#", "time (UTC)", "event", "details"):
        table.add_column(column, overflow="fold")
    for entry in entries[-cfg.last :]:
        details = ", ".join(f"{k}={_short(k, v)}" for k, v in entry.details.items())
        colour = _COLOURS.get(entry.event, "white")
        event = f"[{colour}]{entry.event}[/]"
        table.add_row(str(entry.number), entry.time[:19], event, escape(details))
    Console(stderr=cfg.quiet, emoji=False).print(table)
    left = [entry.details for entry in entries if entry.event == "left"]
    return {
        "site": policy.site,
        "entries": len(entries),
        "refused": sum(entry.event == "refused" for entry in entries),
        "messages_left": len(left),
        "bytes_left": sum(int(details["bytes"]) for details in left),
        "last_hash": entries[-1].hash if entries else "",
    }


def _short(key: str, value: object) -> str:
    return str(value)[:12] if key == "bundle" else str(value)


VERB = Verb(
    words=("site", "log"),
    summary="show the append-only log and check that nobody changed it",
    examples=("primia site log", "primia site log last=200"),
    config_name="site_log",
    schema=LogArguments,
    run=run,
)
