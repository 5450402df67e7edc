"""`primia evaluate`: score a saved model on any readable data."""

import json
import os
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Optional

from rich.console import Console

from primia_flwr.cli.verb import Verb
from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.config.data import LAYOUT_NAMES, SPLIT_NAMES, DataConfig
from primia_flwr.config.load import load_experiment
from primia_flwr.errors import ConfigError, DataError


@dataclass
class EvaluateDataConfig:
    """The data to score; a key left None is as in the run."""

    root: Optional[str] = None
    manifest: Optional[str] = None
    layout: Optional[str] = None
    split: Optional[str] = None
    patient_pattern: Optional[str] = None
    skip_unreadable: Optional[bool] = None
    workers: Optional[int] = None
    cache_dir: Optional[str] = None

    def __post_init__(self) -> None:
        if self.layout is not None:
            check_choice("data.layout", self.layout, LAYOUT_NAMES)
        if self.split is not None:
            check_choice("data.split", self.split, SPLIT_NAMES)

    @property
    def is_new(self) -> bool:
        """Whether other data than the run's are named."""
        return bool(self.root or self.manifest or self.layout == "synthetic")


@dataclass
class EvaluateConfig:
    """What to score, on what, and where to write the figures."""

    run: str = ""
    data: EvaluateDataConfig = field(default_factory=EvaluateDataConfig)
    name: str = ""
    output: str = ""
    batch_size: int = 128
    device: str = "auto"
    saliency: int = 0
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("saliency", self.saliency, 0, 20, example=2)
        check_range("batch_size", self.batch_size, 1, 65536, example=128)
        if self.name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.name):
            raise ConfigError(
                f"name={self.name!r}; expected 1 to 64 letters, digits, '.', '_' or '-' and a "
                "letter or digit first, e.g. hospital-b"
            )


def run(cfg: EvaluateConfig) -> dict[str, Any]:
    """Score the model and write `evaluation/<name>/metrics.json` and `predictions.csv`.

    With `saliency`, also Grad-CAM maps of as many right and wrong images of each class into
    `evaluation/<name>/saliency`; the report of the run, where it lies beside, is written anew.

    Raises
    ------
    ConfigError, CheckpointError, DataError
        If the run, its model or the data cannot be used together.
    """
    from primia_flwr.evaluation.report import write_report
    from primia_flwr.federation.scoring import explain_model, score_model
    from primia_flwr.models.saved import load_model

    run_dir = _run_dir(cfg)
    model, card = load_model(run_dir)
    base, seed = _data_of_run(run_dir, cfg)
    wanted = replace(
        _merged(base, cfg.data),
        classes=list(card.classes),
        image_size=card.image_size,
        channels=card.channels,
        resize=card.resize,
    )
    images, origin = _images(wanted, cfg.data, own_split=base.split, seed=seed)
    warning = _overlap(base, wanted, origin)
    target = _target(run_dir, cfg, wanted, origin)
    path = target / "predictions.csv"
    scores = score_model(model, card, images, path, batch_size=cfg.batch_size, device=cfg.device)
    about = {
        "run": str(run_dir),
        "round": card.round,
        "config_hash": card.config_hash,
        "data": {"root": wanted.root, "manifest": wanted.manifest, "split": origin},
        "synthetic": images.synthetic,
        "warning": warning,
    }
    _write_json(target / "metrics.json", {**scores.to_dict(), "notes": scores.notes, **about})
    if cfg.saliency:
        explain_model(
            model,
            card,
            images,
            target,
            per_class=cfg.saliency,
            origin=f"{len(images)} images scored by primia evaluate as {target.name}",
            device=cfg.device,
        )
        if (run_dir / "run.json").is_file() and run_dir in target.parents:
            write_report(run_dir)
    _show(cfg, scores, origin, images.synthetic, warning)
    return {
        "run": str(run_dir),
        "output": str(target),
        "n": scores.n,
        "accuracy": scores.accuracy,
        "balanced_accuracy": scores.balanced_accuracy,
        "mcc": scores.mcc,
        "roc_auc": scores.roc_auc,
        "synthetic": images.synthetic,
    }


def _run_dir(cfg: EvaluateConfig) -> Path:
    if not cfg.run:
        raise ConfigError(
            "run is empty; expected the output folder of a run, "
            "e.g. run=outputs/2026-01-31/12-00-00-demo"
        )
    path = Path(cfg.run).expanduser().resolve()
    if not path.is_dir():
        raise ConfigError(f"run={cfg.run}; expected an existing output folder; correct the path")
    return path


def _data_of_run(run_dir: Path, cfg: EvaluateConfig) -> tuple[DataConfig, int]:
    path = run_dir / "config.yaml"
    if path.is_file():
        experiment = load_experiment(path.read_text(encoding="utf-8"))
        return experiment.data, experiment.seed
    if not cfg.data.is_new:
        raise ConfigError(
            f"{path} is missing, so the run's own test set is unknown; expected data.root or "
            "data.manifest, e.g. data.root=scans"
        )
    return DataConfig(layout="auto"), 0


def _merged(base: DataConfig, asked: EvaluateDataConfig) -> DataConfig:
    """Return the run's data section with what was asked for put in its place.

    Another source takes the run's layout only if that can read it: a root is not read by the
    synthetic or the manifest layout, a manifest only by its own.
    """
    changes = {
        item.name: value
        for item in fields(asked)
        if (value := getattr(asked, item.name)) is not None
    }
    if asked.manifest and not asked.layout:
        changes["layout"] = "manifest"
    elif asked.root and not asked.layout and base.layout in ("synthetic", "manifest"):
        changes["layout"] = "auto"
    if asked.root and not asked.manifest:
        changes["manifest"] = ""
    return replace(base, **changes)


def _images(
    cfg: DataConfig, asked: EvaluateDataConfig, *, own_split: str, seed: int
) -> tuple[Any, str]:
    """Return the images, and which of the data they are."""
    from primia_flwr.data.dataset import load_images, load_test
    from primia_flwr.data.readers import in_split

    manifest = _manifest(cfg, seed=seed)
    if not asked.is_new and asked.split in (None, "auto", "test"):
        return load_test(replace(cfg, split=own_split), seed=seed), "own test"
    split = asked.split or "auto"
    if split == "auto":
        split = "test" if any(s.split == "test" for s in manifest.samples) else "all"
    return load_images(in_split(manifest, split), cfg), split


def _manifest(cfg: DataConfig, *, seed: int) -> Any:
    """List the images with the model's classes; classes without an image are allowed."""
    from primia_flwr.data.readers import read_manifest

    try:
        manifest = read_manifest(cfg, seed=seed)
        found = manifest.classes
    except DataError as error:
        found = read_manifest(replace(cfg, classes=[]), seed=seed).classes
        if set(found) <= set(cfg.classes):
            raise error from None
    if tuple(found) == tuple(cfg.classes):
        return manifest
    raise DataError(
        f"{cfg.manifest or cfg.root or cfg.layout}: classes {', '.join(found)}; expected those of "
        f"the model, {', '.join(cfg.classes)}; rename the classes of the data, or take the layout "
        "of the run's own data"
    )


def _overlap(base: DataConfig, wanted: DataConfig, origin: str) -> str:
    """Return a warning if images that the model was trained on may be among those scored."""
    if origin in ("test", "own test"):
        return ""
    if wanted.layout == "synthetic":
        same = base.layout == "synthetic" and base.synthetic == wanted.synthetic
    elif wanted.manifest or base.manifest:
        same = _path(wanted.manifest) == _path(base.manifest)
    else:
        old, new = _path(base.root), _path(wanted.root)
        same = bool(base.root) and (old == new or old in new.parents or new in old.parents)
    if not same:
        return ""
    return (
        "these images may include some that the model was trained on; "
        "without data.root and data.split the run's own test set is scored"
    )


def _path(text: str) -> Path:
    return Path(text).expanduser().resolve()


def _target(run_dir: Path, cfg: EvaluateConfig, data: DataConfig, origin: str) -> Path:
    name = cfg.name
    if not name:
        source = Path(data.manifest).stem or _path(data.root).name if cfg.data.is_new else "own"
        part = "" if origin == "all" else f"-{origin.removeprefix('own ')}"
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{source or data.layout}{part}").strip("-.")
    base = Path(cfg.output).expanduser().resolve() if cfg.output else run_dir
    target = base / "evaluation" / (name or "data")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{target} cannot be made ({error.strerror}); expected a writable folder; "
            "give one as output=<folder>"
        ) from None
    return target


def _show(cfg: EvaluateConfig, scores: Any, origin: str, synthetic: bool, warning: str) -> None:
    from primia_flwr.evaluation.table import class_table, scores_table

    console = Console(stderr=cfg.quiet, emoji=False)
    kind = "synthetic images" if synthetic else "images"
    console.print(scores_table(scores, title=f"{scores.n} {kind} ({origin})"))
    console.print(class_table(scores, title="Each class against all others"))
    for note in scores.notes:
        console.print(f"note: {note}", markup=False)
    if warning:
        console.print(f"warning: {warning}", style="yellow", markup=False)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


VERB = Verb(
    words=("evaluate",),
    summary="score a saved model on any readable data; writes metrics.json and predictions.csv",
    examples=(
        "primia evaluate run=outputs/2026-01-31/12-00-00-demo",
        "primia evaluate run=outputs/a data.root=chest_xray/test",
        "primia evaluate run=outputs/a data.root=chest_xray data.split=test device=cuda",
        "primia evaluate run=outputs/a data.manifest=hospital.csv name=hospital-b",
        "primia evaluate run=outputs/a data.root=chest_xray/test saliency=2",
    ),
    config_name="evaluate",
    schema=EvaluateConfig,
    run=run,
    positional="run",
)
