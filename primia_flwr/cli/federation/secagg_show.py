"""`primia secagg show`: what the coordinator saw in a secure run, and what it could not see."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from primia_flwr.cli.command import Command
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    from primia_flwr.reporting.chapters.secure import Sheet
    from primia_flwr.runs.folder import RunFolder


@dataclass
class ShowArguments:
    """Arguments of `primia secagg show`: the output folder of a run."""

    run: str = ""
    quiet: bool = False


def _run(cfg: ShowArguments) -> dict[str, Any]:
    """Print the account of a run's secure sums, and return what they add up to."""
    from primia_flwr.runs.folder import read_run_folder
    from primia_flwr.runs.secure_sums import totals

    folder = read_run_folder(_run_dir(cfg))
    rows = folder.secure.rows
    if not rows:
        raise ConfigError(f"run={cfg.run} {_why_none(folder)}")
    _show(folder, Console(stderr=cfg.quiet, emoji=False))
    return {
        "run": str(folder.path),
        **asdict(totals(rows)),
        "min_survivors": min(row.min_survivors for row in rows),
        "max_colluding": max(row.max_colluding for row in rows),
        "complete_graph": not any(row.sparse for row in rows),
        "one_machine": folder.one_machine,
        "unreadable": folder.secure.unreadable,
    }


def _run_dir(cfg: ShowArguments) -> Path:
    if not cfg.run:
        raise ConfigError(
            "run is empty; expected the output folder of a run, "
            "e.g. run=outputs/2026-01-31/12-00-00-demo"
        )
    path = Path(cfg.run).expanduser().resolve()
    if not path.is_dir():
        raise ConfigError(f"run={cfg.run}; expected an existing output folder; correct the path")
    return path


def _why_none(folder: "RunFolder") -> str:
    if folder.run.get("secure_aggregation"):
        return (
            "aggregated securely, but has no readable line in secure-sums.jsonl; expected one for "
            "each sum; it ended before the first, or an earlier version made it"
        )
    if words := folder.run.get("seen"):
        return f"has no secure sums ({words}); expected a run with aggregation=secure"
    return (
        "used plain averaging: the coordinator saw each site's update; "
        "expected a run with aggregation=secure"
    )


def _show(folder: "RunFolder", console: Console) -> None:
    from primia_flwr.reporting.chapters.secure import headline, sheets
    from primia_flwr.reporting.chapters.secure_account import account

    rows = folder.secure.rows
    name = folder.run.get("name", "run")
    console.print(Text(f"Secure aggregation: {name} ({folder.path})", "bold"), soft_wrap=True)
    for sheet in sheets(rows):
        console.print(_table(sheet))
    for chapter in account(rows, folder.task, one_machine=folder.one_machine):
        console.print(Text(chapter.title, "bold"))
        points = Table.grid(padding=(0, 1))
        for point in chapter.points:
            points.add_row("-", Text(point))
        console.print(points)
        console.print()
    line = ", ".join(f"{name.lower()} {value}" for name, value in headline(folder.secure))
    console.print(Text(f"Total: {line}"), soft_wrap=True)


def _table(sheet: "Sheet") -> Table:
    table = Table(
        title=sheet.caption,
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for index, heading in enumerate(sheet.headings):
        justify: Literal["left", "right"] = "left" if index in sheet.words else "right"
        lines = heading.rsplit(" ", 1)
        least = max(map(len, lines))
        table.add_column("\n".join(lines), justify=justify, overflow="fold", min_width=least)
    table.columns[0].no_wrap = True
    for cells in sheet.lines:
        table.add_row(*(Text(cell) for cell in cells))
    return table


COMMAND = Command(
    words=("secagg", "show"),
    summary=(
        "what the coordinator saw in a run with aggregation=secure, what it could not see, and "
        "under which conditions"
    ),
    examples=(
        "primia secagg show run=outputs/2026-01-31/12-00-00-demo",
        "primia secagg show outputs/a",
        "primia secagg show run=outputs/a quiet=true      # the tables on standard error",
    ),
    config_name="commands/federation/secagg_show",
    schema=ShowArguments,
    run=_run,
    positional="run",
)
