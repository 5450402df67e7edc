"""`primia data check`: what is in a data folder, and what is broken."""

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from primia_flwr.cli.command import Command
from primia_flwr.config.experiment.data import DataConfig

if TYPE_CHECKING:
    from primia_flwr.data.check import Findings


@dataclass
class _DataCheckConfig:
    """Arguments of `primia data check`; `limit` bounds the names shown for each problem."""

    seed: int = 1
    quiet: bool = False
    limit: int = 10
    data: DataConfig = field(default_factory=DataConfig)


def _run(cfg: _DataCheckConfig) -> dict[str, Any]:
    """Check the data and print a table; the result's `ok` decides the exit code."""
    from primia_flwr.data.check import check_data  # heavy

    findings = check_data(cfg.data, seed=cfg.seed)
    _show(findings, Console(file=sys.stderr if cfg.quiet else sys.stdout, emoji=False), cfg.limit)
    return findings.to_dict()


def _show(findings: "Findings", console: Console, limit: int) -> None:
    """Print the findings for a person."""
    note = " (synthetic: drawn by formula)" if findings.synthetic else ""
    console.print(f"[bold]{escape(findings.root)}[/]{note}", soft_wrap=True)
    if findings.images:
        console.print(_counts_table(findings))
        console.print(f"formats {findings.kinds}   sizes (min, median, max) {findings.sizes}")
    problems = {
        "unreadable": list(findings.unreadable.values()),
        "identical images": [" = ".join(group) for group in findings.duplicates],
        "patient in several splits": _places(findings.patients_on_both_sides),
        "patient at several sites": _places(findings.patients_at_two_sites),
    }
    for title, lines in problems.items():
        _show_list(console, title, lines, limit)
    for text in findings.warnings:
        console.print(f"[yellow]warning:[/] {escape(text)}", soft_wrap=True)
    for text in findings.errors:
        console.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)
    if findings.ok:
        console.print("[green]ready for training[/]")


def _counts_table(findings: "Findings") -> Table:
    table = Table("", "images", "patients")
    groups = (("class", findings.classes), ("split", findings.splits), ("site", findings.sites))
    for title, counts in groups:
        for name, count in counts.items():
            label = escape(f"{title} {name or '(none)'}")
            table.add_row(label, str(count["images"]), str(count["patients"]))
    table.add_row("[bold]all[/]", str(findings.images), str(findings.patients))
    return table


def _places(patients: dict[str, list[str]]) -> list[str]:
    return [f"{patient}: {', '.join(places)}" for patient, places in patients.items()]


def _show_list(console: Console, title: str, lines: list[str], limit: int) -> None:
    if not lines:
        return
    console.print(f"[bold]{title}[/]: {len(lines)}")
    for line in lines[:limit]:
        console.print(f"  {escape(line)}", soft_wrap=True)
    if len(lines) > limit:
        console.print(f"  … and {len(lines) - limit} more (limit={len(lines)} shows all)")


COMMAND = Command(
    words=("data", "check"),
    summary="read every image: counts, unreadable files, duplicates, patients on both sides",
    examples=(
        "primia data check data.root=chest_xray/train",
        "primia data check data.root=scans 'data.patient_pattern=\"(?P<patient>P\\d+)\"'",
        "primia data check data.manifest=site.csv data.root=/images quiet=true",
    ),
    config_name="commands/data/check",
    groups=True,
    schema=_DataCheckConfig,
    run=_run,
)
