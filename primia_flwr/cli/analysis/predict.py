"""`primia predict`: images without labels, classified by a saved model in the clear."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from primia_flwr.cli.analysis.scored_data import experiment_of, run_folder
from primia_flwr.cli.command import Command
from primia_flwr.cli.inference.findings import finding
from primia_flwr.cli.inference.predictions import output_folder, write_tables
from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from primia_flwr.models.card import ModelCard
    from primia_flwr.pipeline.unlabelled import Opinion, Reader

_FRAMES = ("refuse", "each", "mean")


@dataclass
class _Images:
    """`root`: one image, or a folder of them."""

    root: str = ""


@dataclass
class _PredictConfig:
    """Which model, which images, and where the tables go."""

    run: str = ""
    data: _Images = field(default_factory=_Images)
    output: str = ""
    frames: str = "refuse"
    batch_size: int = 128
    device: str = "auto"
    coverage: Optional[float] = None
    by_class: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        check_choice("frames", self.frames, _FRAMES)
        if self.coverage is not None:
            check_range("coverage", self.coverage, 0, 1, example=0.9, open_low=True, open_high=True)
        check_range("batch_size", self.batch_size, 1, 65536, example=128)


def run(cfg: _PredictConfig) -> dict[str, Any]:
    """Classify the images; write predictions.csv and predictions.json as `primia infer` does.

    A model with outputs at each pixel gives masks instead: `masks/<file>.png`, a table beside them.

    A file that cannot be read is named and left out; then the result's `ok` is false.

    Raises
    ------
    ConfigError, CheckpointError, DataError
        If the run or its model cannot be used, or no file is a readable image.
    """
    run_dir = run_folder("run", cfg.run)
    from primia_flwr.data.files.unlabelled import find_images
    from primia_flwr.models.saved import load_model
    from primia_flwr.pipeline.unlabelled import Reader

    model, card = load_model(run_dir)
    _check_task(run_dir, card)
    sets = _sets(cfg, card)
    root, files = find_images(cfg.data.root)
    output = output_folder(cfg.output or f"predictions/{time.strftime('%Y-%m-%d_%H-%M-%S')}")
    console = Console(stderr=True, quiet=cfg.quiet, emoji=False)
    masks = _masks(cfg, card, output)
    reader = Reader(model, card, root, cfg.batch_size, cfg.device, cfg.frames)
    rows, skipped = list[dict[str, Any]](), dict[str, str]()
    for opinion in _read(reader, files, console, quiet=cfg.quiet):
        if opinion.problem:
            skipped[opinion.name] = opinion.problem
        else:
            rows.append(masks.row(opinion) if masks else {**_row(card, opinion), **sets(opinion)})
    if not rows:
        raise DataError(
            f"data.root={cfg.data.root}: none of {len(files)} files is a readable image; the "
            f"first: {next(iter(skipped.values()))}"
        )
    facts = _facts(str(run_dir), card, rows, skipped)
    write_tables(output, rows, facts)
    for name, why in skipped.items():
        console.print(f"skipped {name}: {why}", markup=False, soft_wrap=True)
    counts = {key: facts[key] for key in ("images", "implausible", "seconds_per_image")}
    ok = not skipped and not facts["implausible"]
    return {**counts, "skipped": len(skipped), "output": str(output), "ok": ok}


def _read(
    reader: "Reader", files: tuple[Path, ...], console: Console, *, quiet: bool
) -> Iterator["Opinion"]:
    """Yield what the model makes of each image, with a bar of the files that are done."""
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet, transient=True) as progress:
        bar, seen = progress.add_task("images", total=len(files)), set[str]()
        for opinion in reader.read(files):
            yield opinion
            seen.add(str(opinion.file))
            progress.update(bar, completed=len(seen))


def _check_task(run_dir: Any, card: "ModelCard") -> None:
    from primia_flwr.config.rows import MODELS, TASKS

    experiment = experiment_of(run_dir)
    if (
        experiment
        and not (TASKS[experiment.data.task].explained or card.several)
        and not MODELS[card.model.name].dense
    ):
        raise ConfigError(
            f"run={run_dir} has data.task={experiment.data.task}, whose models call no class; "
            "expected a classification or a segmentation; primia evaluate scores models of every "
            "task"
        )


def _masks(cfg: _PredictConfig, card: "ModelCard", output: Any) -> Any:
    """Return what writes the masks of a model with outputs at each pixel; None for others."""
    from primia_flwr.config.rows import MODELS

    if not MODELS[card.model.name].dense:
        return None
    if cfg.frames != "refuse":
        raise ConfigError(
            f"frames={cfg.frames} with model.name={card.model.name}; expected refuse: a mask is "
            "that of one image; export the frames as files"
        )
    from primia_flwr.pipeline.predicted_masks import MaskWriter

    return MaskWriter(output, card)


def _row(card: "ModelCard", opinion: "Opinion") -> dict[str, Any]:
    """Return a line of the table, with the columns that `primia infer` writes."""
    from primia_flwr.data.files.listing import file_digest
    from primia_flwr.pipeline.unlabelled import is_plausible

    assert opinion.scores is not None
    plausible = is_plausible(opinion.scores)
    return {
        "file": opinion.name,
        **finding(card, opinion.scores if plausible else None),
        "plausible": plausible,
        "audit": "off",
        "calibrated": 0,
        "seconds": round(opinion.seconds, 4),
        "bytes_sent": 0,
        "bytes_received": 0,
        "sha256": file_digest(opinion.file),
    }


def _sets(cfg: _PredictConfig, card: "ModelCard") -> "Callable[[Opinion], dict[str, str]]":
    """Return what gives the column with an image's set of classes; no column without sets."""
    from primia_flwr.evaluation.sets import asked_rule, in_words
    from primia_flwr.pipeline.unlabelled import is_plausible

    rule = asked_rule(card, coverage=cfg.coverage, by_class=cfg.by_class)
    if rule is None:
        return lambda _: {}

    def column(opinion: "Opinion") -> dict[str, str]:
        assert opinion.scores is not None
        if not is_plausible(opinion.scores):
            return {"set": ""}
        probabilities = opinion.scores.double().softmax(dim=0)[None].numpy()
        return {"set": in_words(card.classes, rule.sets(probabilities)[0])}

    return column


def _facts(
    run_dir: str, card: "ModelCard", rows: list[dict[str, Any]], skipped: dict[str, str]
) -> dict[str, Any]:
    """Return what stands in predictions.json beside the rows; keys as of `primia infer`."""
    return {
        "images": len(rows),
        "complete": True,
        "skipped": skipped,
        "audit": False,
        "outside": 0,
        "implausible": sum(not row["plausible"] for row in rows),
        "seconds_per_image": round(sum(row["seconds"] for row in rows) / len(rows), 4),
        "bytes_sent": 0,
        "bytes_received": 0,
        "basis": "computed in the clear, by the plain model",
        "classes": list(card.classes),
        "model": _model(run_dir, card),
    }


def _model(run_dir: str, card: "ModelCard") -> dict[str, Any]:
    return {
        "run": run_dir,
        "round": card.round,
        "config_hash": card.config_hash,
        "synthetic": card.synthetic,
        "calibrated": 0,
    }


COMMAND = Command(
    words=("predict",),
    summary="classify images without labels by a saved model; writes the table of primia infer",
    examples=(
        "primia predict run=outputs/2026-01-31/12-00-00-demo data.root=today",
        "primia predict run=outputs/a data.root=today/thorax.dcm output=results",
        "primia predict run=outputs/a data.root=today device=cuda batch_size=256",
        "primia predict run=outputs/segmentation data.root=today  # masks as PNG files",
        "primia predict run=outputs/a data.root=series frames=each  # or frames=mean",
    ),
    config_name="commands/analysis/predict",
    schema=_PredictConfig,
    run=run,
    positional="run",
)
