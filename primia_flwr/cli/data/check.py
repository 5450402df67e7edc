"""`primia data check`: what is in a data folder, and what is broken."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from primia_flwr.cli.command import Command
from primia_flwr.cli.data.listed import show_list
from primia_flwr.config.checks import check_range
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.storage.printable import printable

if TYPE_CHECKING:
    from primia_flwr.data.check import Findings


@dataclass
class _DataCheckConfig:
    """Arguments of `primia data check`; `limit` bounds the names shown for each problem."""

    seed: int = 1
    quiet: bool = False
    limit: int = 10
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        check_range("seed", self.seed, 0, 2**32 - 1, example=1)
        check_range("limit", self.limit, 0, 1_000_000, example=10)


def _run(cfg: _DataCheckConfig) -> dict[str, Any]:
    """Check the data and print a table; the result's `ok` decides the exit code."""
    from primia_flwr.data.check import check_data  # heavy

    console = Console(stderr=True)
    hidden = cfg.quiet or not console.is_terminal
    with Progress(console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("reading images", total=None)
        findings = check_data(
            cfg.data,
            seed=cfg.seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _show(findings, Console(file=sys.stderr if cfg.quiet else sys.stdout, emoji=False), cfg.limit)
    return findings.to_dict()


def _show(findings: "Findings", console: Console, limit: int) -> None:
    """Print the findings for a person."""
    note = " (synthetic: drawn by formula)" if findings.synthetic else ""
    console.print(f"[bold]{_text(findings.root)}[/]{note}", soft_wrap=True)
    if findings.images:
        console.print(_counts_table(findings))
        console.print(f"formats {findings.kinds}   sizes (min, median, max) {findings.sizes}")
    if findings.left_out:
        console.print(f"left out: {_counted(findings.left_out)}", soft_wrap=True)
    _show_census(console, findings)
    for title, lines in _problems(findings).items():
        show_list(console, title, lines, limit)
    for text in findings.warnings:
        console.print(f"[yellow]warning:[/] {_text(text)}", soft_wrap=True)
    for text in findings.errors:
        console.print(f"[bold red]error:[/] {_text(text)}", soft_wrap=True)
    if findings.ok:
        console.print("[green]ready for training[/]")


def _problems(findings: "Findings") -> dict[str, list[str]]:
    return {
        "unreadable": list(findings.unreadable.values()),
        "identical images": [" = ".join(group) for group in findings.duplicates],
        "patient in several splits": _places(findings.patients_on_both_sides),
        "patient at several sites": _places(findings.patients_at_two_sites),
    }


def _counts_table(findings: "Findings") -> Table:
    table = Table("", "images", "patients")
    groups = (("class", findings.classes), ("split", findings.splits), ("site", findings.sites))
    for title, counts in groups:
        for name, count in counts.items():
            label = _text(f"{title} {name or '(none)'}")
            table.add_row(label, str(count["images"]), str(count["patients"]))
    table.add_row("[bold]all[/]", str(findings.images), str(findings.patients))
    return table


def _show_census(console: Console, findings: "Findings") -> None:
    """Print what the headers of DICOM files say, a line for each tag that any of them has."""
    census = findings.census
    if not census.headers:
        return
    other = f", {census.others} image(s) without" if census.others else ""
    console.print(f"headers of {census.headers} DICOM file(s){other}, {census.studies} study(ies):")
    for name in ("modality", "view", "intent", "burned_in", "body_part", "photometric"):
        counts = getattr(census, name)
        if set(counts) != {""}:
            console.print(f"  {name.replace('_', ' ')}: {_counted(counts)}", soft_wrap=True)
    makers = {name: n for name, n in census.manufacturer.items() if name}
    if makers:
        console.print(f"  manufacturers: {len(makers)} ({_counted(makers)})", soft_wrap=True)
    console.print(f"  SOP instance UID twice: {len(census.twins)}")


def _counted(counts: Mapping[str, int]) -> str:
    parts = (f"{count} {_text(name) or 'without'}" for name, count in counts.items())
    return ", ".join(parts)


def _text(text: str) -> str:
    """Make a name printable: no markup of rich, no character that moves a cursor."""
    return escape(printable(text, limit=2000))


def _places(patients: dict[str, list[str]]) -> list[str]:
    return [f"{patient}: {', '.join(places)}" for patient, places in patients.items()]


COMMAND = Command(
    words=("data", "check"),
    summary="read every image: counts, headers, unreadable files, duplicates, patients twice",
    examples=(
        "primia data check data.root=chest_xray/train",
        "primia data check data.root=scans 'data.patient_pattern=\"(?P<patient>P\\d+)\"'",
        "primia data check data.manifest=site.csv data.root=/images quiet=true",
        "primia data check data.root=scans 'data.select.view=[PA,AP]' data.select.burned_in=drop",
    ),
    config_name="commands/data/check",
    groups=True,
    schema=_DataCheckConfig,
    run=_run,
)
