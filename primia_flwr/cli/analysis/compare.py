"""`primia compare`: models and human readers on the same images, with intervals and tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from primia_flwr.cli.analysis.scored_data import ScoredDataConfig, run_folder
from primia_flwr.cli.command import Command
from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.config.experiment.schema import BASELINES
from primia_flwr.errors import ConfigError
from primia_flwr.extras import need


@dataclass
class _CompareConfig:
    """What to compare, on what, and how."""

    runs: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    data: ScoredDataConfig = field(default_factory=ScoredDataConfig)
    experts: str = ""
    groups: str = ""
    baselines: list[str] = field(default_factory=lambda: ["centralised", "local"])
    negative: str = "normal"
    sensitivity: float = 0.95
    validation: bool = True
    resamples: int = 2000
    seed: int = 0
    output: str = ""
    batch_size: int = 128
    device: str = "auto"
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("sensitivity", self.sensitivity, 0, 1, example=0.95, open_low=True)
        check_range("resamples", self.resamples, 100, 100_000, example=2000)
        check_range("seed", self.seed, 0, 2**32 - 1, example=0)
        check_range("batch_size", self.batch_size, 1, 65536, example=128)
        for name in self.baselines:
            check_choice("baselines", name, BASELINES)


def _run(cfg: _CompareConfig) -> dict[str, Any]:
    """Compare, show the tables, and write the folder with JSON, CSV, plots and page."""
    need("statsmodels", "primia compare")
    from primia_flwr.cli.analysis.compared_runs import gather, named_runs
    from primia_flwr.reporting.compare_page import check_target, write_comparison
    from primia_flwr.tasks.judge import Settings

    if not cfg.runs:
        raise ConfigError(
            "runs is empty; expected output folders of runs, e.g. runs=[outputs/a,outputs/b]"
        )
    runs = named_runs([run_folder("runs", text) for text in cfg.runs], cfg.names)
    target = Path(cfg.output).expanduser().resolve() if cfg.output else runs[0].path / "comparison"
    check_target(target)
    found = gather(runs, cfg.data, cfg.baselines, batch_size=cfg.batch_size, device=cfg.device)
    result = found.judge.compare(
        found.readings,
        Settings(cfg.seed, cfg.resamples, cfg.sensitivity, cfg.negative),
        validation=_validation(cfg, runs, found),
        groups=_group_columns(cfg, found),
        experts=Path(cfg.experts).expanduser() if cfg.experts else None,
    )
    result.notes.extend(found.notes)
    about = {
        "title": " · ".join(one.name for one in runs),
        "data": found.data,
        "synthetic": found.synthetic,
        "runs": {one.name: str(one.path) for one in runs},
        "experts": cfg.experts,
    }
    page = write_comparison(target, result, about)
    _show(cfg, result, page)
    return {
        "output": str(target),
        "report": str(page),
        **result.summary(),
        "synthetic": found.synthetic,
    }


def _validation(cfg: _CompareConfig, runs: Any, found: Any) -> dict[str, Any]:
    """Return each run's validation set by name; say in a note where there is none."""
    from primia_flwr.cli.analysis.compared_runs import validation_of

    if not cfg.validation:
        found.notes.append("validation=false: no temperature is fitted.")
        return {}
    sets = {}
    for one in runs:
        held, why = validation_of(one, found, batch_size=cfg.batch_size, device=cfg.device)
        if held is None:
            found.notes.append(f"No temperature is fitted for {one.name}: {why}.")
        else:
            sets[one.name] = held
    return sets


def _group_columns(cfg: _CompareConfig, found: Any) -> dict[str, dict[str, str]]:
    """Return for each column that groups the images, file -> group."""
    from primia_flwr.tasks.image_csv import read_groups

    columns = {"site": found.site} if len(set(found.site.values())) > 1 else {}
    if cfg.groups:
        name, of = read_groups(Path(cfg.groups).expanduser(), found.images.files)
        columns[name] = of
    return columns


def _show(cfg: _CompareConfig, result: Any, page: Path) -> None:
    console = Console(quiet=cfg.quiet, emoji=False)
    if words := result.summary().get("answer"):
        console.print(words, markup=False, style="bold")
    for sheet in result.sheets():
        console.print(sheet.to_rich())
    for note in result.notes:
        console.print(f"note: {note}", markup=False)
    console.print(f"report: {page}", markup=False, soft_wrap=True)


COMMAND = Command(
    words=("compare",),
    summary="models and human readers on the same images, with intervals and tests",
    examples=(
        "primia compare runs=[outputs/a,outputs/b]",
        "primia compare runs=[outputs/a,outputs/b] names=[secure,plain] baselines=[centralised]",
        "primia compare runs=[outputs/a,outputs/b] data.root=chest_xray/test",
        "primia compare runs=[outputs/a] data.manifest=hospital.csv experts=experts.csv",
        "primia compare runs=[outputs/a] groups=scanners.csv output=outputs/by-scanner",
    ),
    config_name="commands/analysis/compare",
    schema=_CompareConfig,
    run=_run,
)
