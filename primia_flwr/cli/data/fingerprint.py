"""`primia data fingerprint`: spacings, sizes and intensities of a folder of volumes."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from primia_flwr.cli.command import Command
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.errors import ConfigError
from primia_flwr.storage.atomic import write_result
from primia_flwr.storage.printable import printable, shown


@dataclass
class _FingerprintConfig:
    """Arguments of `primia data fingerprint`; `output`: a JSON file for what is printed."""

    output: str = ""
    quiet: bool = False
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        file = Path(self.output)
        writable = file.suffix == ".json" and file.parent.is_dir() and not file.is_dir()
        if self.output and not writable:
            raise ConfigError(
                f"output={shown(self.output, limit=80)}; expected a file that ends in .json, in a "
                "folder that exists, e.g. fingerprint.json"
            )


def _run(cfg: _FingerprintConfig) -> dict[str, Any]:
    """Count all volumes of a folder; print their fingerprint and the settings that suit it."""
    from primia_flwr.data.files.progress import telling  # heavy, as what follows
    from primia_flwr.data.fingerprint.facts import fingerprint
    from primia_flwr.data.layouts.msd import volume_counts

    data = replace(cfg.data, volumes=replace(cfg.data.volumes, fingerprint=True))
    console = Console(stderr=True)
    with Progress(
        console=console, transient=True, disable=cfg.quiet or not console.is_terminal
    ) as bar:
        task = bar.add_task("reading volumes", total=None)
        with telling(lambda done, total: bar.update(task, completed=done, total=total)):
            counts, classes = volume_counts(data)
    first, last = cfg.data.volumes.levels
    found = {
        "root": cfg.data.root,
        "levels": [first, last],
        **fingerprint(counts, classes, (first, last)),
    }
    if cfg.output:
        write_result(Path(cfg.output), found)
    _show(found, Console(file=sys.stderr if cfg.quiet else sys.stdout, emoji=False))
    return found


def _show(found: Mapping[str, Any], console: Console) -> None:
    """Print a fingerprint for a person."""
    console.print(f"{found['cases']} volume(s)")
    table = Table("", "axis", "10 %", "median", "90 %")
    for key, title in (("spacing_mm", "spacing, mm"), ("voxels", "voxels"), ("extent_mm", "mm")):
        for axis, row in found[key].items():
            table.add_row(title, axis, *(f"{row[p]:g}" for p in ("p10", "p50", "p90")))
    console.print(table)
    for name, count in found["labelled_voxels"].items():
        console.print(f"{escape(printable(name, limit=200))}: {count:,} voxels", soft_wrap=True)
    _show_intensity(found["intensity"], console)
    for name, value in found["suggested"].items():
        console.print(f"suggested {name}: {escape(str(value))}", soft_wrap=True)


def _show_intensity(found: Mapping[str, float], console: Console) -> None:
    if not found:
        console.print("[yellow]warning:[/] nothing is labelled: no intensities to tell of")
        return
    names = ("p0.5", "median", "p99.5", "mean", "std")
    console.print("labelled voxels: " + ", ".join(f"{name} {found[name]:.5g}" for name in names))
    beyond = found["share_below"] + found["share_above"]
    if beyond:
        console.print(
            f"[yellow]warning:[/] {beyond:.2%} of them lie beyond data.volumes.levels and count "
            "as its ends: give wider ones",
            soft_wrap=True,
        )


COMMAND = Command(
    words=("data", "fingerprint"),
    summary="spacings, sizes and intensities of volumes, and the settings that suit them",
    examples=(
        "primia data fingerprint data.root=Task03_Liver",
        "primia data fingerprint data.root=Task03_Liver output=fingerprint.json",
        "primia data fingerprint data.root=Task04_Hippocampus 'data.volumes.levels=[0,4095]'",
    ),
    config_name="commands/data/fingerprint",
    groups=True,
    schema=_FingerprintConfig,
    run=_run,
)
