"""`primia evaluate`: score a saved model on any readable data."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from rich.console import Console

from primia_flwr.cli.analysis.scored_data import ScoredDataConfig, images_for, resolved, run_folder
from primia_flwr.cli.command import Command
from primia_flwr.config.checks import check_range
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.errors import ConfigError
from primia_flwr.extras import need
from primia_flwr.storage.atomic import write_result
from primia_flwr.storage.printable import printable


@dataclass
class EvaluateConfig:
    """What to score, on what, and where to write the figures."""

    run: str = ""
    data: ScoredDataConfig = field(default_factory=ScoredDataConfig)
    name: str = ""
    output: str = ""
    batch_size: int = 128
    device: str = "auto"
    saliency: int = 0
    coverage: Optional[float] = None
    by_class: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("saliency", self.saliency, 0, 20, example=2)
        if self.coverage is not None:
            check_range("coverage", self.coverage, 0, 1, example=0.9, open_low=True, open_high=True)
        check_range("batch_size", self.batch_size, 1, 65536, example=128)
        if self.name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.name):
            raise ConfigError(
                f"name={self.name!r}; expected 1 to 64 letters, digits, '.', '_' or '-' and a "
                "letter or digit first, e.g. hospital-b"
            )


def run(cfg: EvaluateConfig) -> dict[str, Any]:
    """Score the model and write `evaluation/<name>/metrics.json` and `predictions.csv`.

    With `saliency`, also Grad-CAM maps of as many right and wrong images of each class into
    `evaluation/<name>/saliency`, or the images of which masks are shown; the report of the run,
    where it lies beside, is written anew.

    Raises
    ------
    ConfigError, CheckpointError, DataError
        If the run, its model or the data cannot be used together.
    """
    run_dir = run_folder("run", cfg.run)
    from primia_flwr.data.pseudonyms import private_folder
    from primia_flwr.evaluation.sets import asked_rule, judge_sets
    from primia_flwr.models.saved import load_model
    from primia_flwr.pipeline.scoring import check_explained, explain_model, score_model
    from primia_flwr.reporting.report import write_report

    model, card = load_model(run_dir)
    rule = asked_rule(card, coverage=cfg.coverage, by_class=cfg.by_class)
    found = images_for(run_dir, card, cfg.data)
    images, wanted, origin, warning = found.images, found.data, found.origin, found.warning
    check_explained(images.task, "saliency", cfg.saliency)
    if cfg.saliency and images.task.explained:
        need("captum", f"saliency={cfg.saliency}", instead="saliency=0")
    target = _target(run_dir, cfg, wanted, origin)
    path = target / "predictions.csv"
    scores = score_model(
        *(model, card, images, path),
        batch_size=cfg.batch_size,
        device=cfg.device,
        private=private_folder(wanted.cache_dir),
    )
    sets = judge_sets(path, images.task.judge, rule) if rule else None
    found_sets = {"sets": sets.to_dict()} if sets else {}
    values = {**scores.to_dict(), "notes": scores.notes, **found_sets}
    write_result(target / "metrics.json", {**values, **_about(run_dir, card, found)})
    if cfg.saliency:
        origin_of_maps = f"{len(images)} images scored by primia evaluate as {target.name}"
        explain_model(
            *(model, card, images, target),
            per_class=cfg.saliency,
            origin=origin_of_maps,
            device=cfg.device,
        )
        if (run_dir / "run.json").is_file() and run_dir in target.parents:
            write_report(run_dir)
    _show(cfg, images, scores, origin, warning, sets)
    return {
        "run": str(run_dir),
        "output": str(target),
        "n": scores.n,
        **{metric.name: scores.figures()[metric.name] for metric in images.task.judge.tested},
        **({"coverage": sets.whole.coverage, "set_size": sets.whole.mean_size} if sets else {}),
        "synthetic": images.synthetic,
    }


def _about(run_dir: Path, card: Any, found: Any) -> dict[str, Any]:
    """Return whose figures these are, and of which images."""
    wanted = found.data
    return {
        "run": str(run_dir),
        "round": card.round,
        "config_hash": card.config_hash,
        "data": {"root": wanted.root, "manifest": wanted.manifest, "split": found.origin},
        "synthetic": found.images.synthetic,
        "warning": found.warning,
    }


def _target(run_dir: Path, cfg: EvaluateConfig, data: DataConfig, origin: str) -> Path:
    name = cfg.name
    if not name:
        source = Path(data.manifest).stem or resolved(data.root).name if cfg.data.is_new else "own"
        part = "" if origin == "all" else f"-{origin.removeprefix('own ')}"
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{source or data.layout}{part}").strip("-.")
    base = Path(cfg.output).expanduser().resolve() if cfg.output else run_dir
    target = base / "evaluation" / (name or "data")
    _check_same_data(target, data)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{target} cannot be made ({error.strerror}); expected a writable folder; "
            "give one as output=<folder>"
        ) from None
    return target


def _check_same_data(target: Path, data: DataConfig) -> None:
    """Refuse to put figures in the place of those of other images: folders may be called alike."""
    from primia_flwr.runs.metadata import read_json

    before = read_json(target / "metrics.json").get("data")
    if not isinstance(before, dict):
        return
    for key in ("root", "manifest"):
        was, now = str(before.get(key) or ""), getattr(data, key)
        if was != now and (not was or not now or resolved(was) != resolved(now)):
            raise ConfigError(
                f"{target} has the figures of data.{key}={printable(was, limit=200)}; expected "
                f"those of {printable(now, limit=200)}: give them a name of their own, name=<name>"
            )


def _show(
    cfg: EvaluateConfig, images: Any, scores: Any, origin: str, warning: str, sets: Any
) -> None:
    from primia_flwr.reporting.result_table import scores_table

    console = Console(stderr=cfg.quiet, emoji=False)
    kind = "synthetic images" if images.synthetic else "images"
    judge = images.task.judge
    if not cfg.quiet:
        console.print(scores_table(judge, scores, title=f"{scores.n} {kind} ({origin})"))
        for sheet in judge.sheets(scores):
            console.print(sheet.to_rich())
        if sets:
            console.print(sets.sheet().to_rich())
        for note in (*scores.notes, *([sets.rule.note] if sets and sets.rule.note else [])):
            console.print(f"note: {note}", markup=False)
    if warning:
        console.print(f"warning: {warning}", style="yellow", markup=False)


COMMAND = Command(
    words=("evaluate",),
    summary="score a saved model on any readable data; writes metrics.json and predictions.csv",
    examples=(
        "primia evaluate run=outputs/2026-01-31/12-00-00-demo",
        "primia evaluate run=outputs/a data.root=chest_xray/test",
        "primia evaluate run=outputs/a data.root=chest_xray data.split=test device=cuda",
        "primia evaluate run=outputs/a data.manifest=hospital.csv name=hospital-b",
        "primia evaluate run=outputs/a data.root=chest_xray/test saliency=2",
        "primia evaluate run=outputs/a coverage=0.95 by_class=true  # of task=conformal",
    ),
    config_name="commands/analysis/evaluate",
    schema=EvaluateConfig,
    run=run,
    positional="run",
)
