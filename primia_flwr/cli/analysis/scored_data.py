"""Which images a saved model is scored on: the run's own test set, or any other data.

A command's `data` section names what differs from the run's own; classes, size and channels are
those of the model.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Optional

from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.config.experiment.data import SPLIT_NAMES, DataConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.rows import LAYOUTS, TASKS
from primia_flwr.config.stored import read_config
from primia_flwr.errors import ConfigError, DataError

_OWN_TEST = "own test"


@dataclass
class ScoredDataConfig:
    """The data to score; a key left None is as in the run."""

    root: Optional[str] = None
    manifest: Optional[str] = None
    layout: Optional[str] = None
    split: Optional[str] = None
    patient_pattern: Optional[str] = None
    patient_column: Optional[str] = None
    columns: Optional[dict[str, str]] = None
    mask_values: Optional[list[int]] = None
    uncertain: Optional[str] = None
    case: Optional[str] = None
    skip_unreadable: Optional[bool] = None
    workers: Optional[int] = None
    cache_dir: Optional[str] = None

    def __post_init__(self) -> None:
        if self.layout is not None:
            check_choice("data.layout", self.layout, LAYOUTS)
        if self.split is not None:
            check_choice("data.split", self.split, SPLIT_NAMES)
        if self.workers is not None:
            check_range("data.workers", self.workers, 0, 256, example=0)

    @property
    def is_new(self) -> bool:
        """Whether other data than the run's are named."""
        return bool(self.root or self.manifest or self.layout == "synthetic")

    @property
    def is_own_test(self) -> bool:
        """Whether it is the run's own test set, read as the run read it."""
        other = {"split", "workers", "cache_dir"}
        asked = {item.name for item in fields(self) if getattr(self, item.name) is not None}
        return asked <= other and self.split in (None, "auto", "test")


@dataclass(frozen=True)
class _ScoredImages:
    """Images to score: `origin` says which of the data, `warning` that some were trained on.

    The warning also says what was left out, or taken for one.
    """

    images: Any
    manifest: Any
    data: DataConfig
    origin: str
    warning: str


def run_folder(key: str, text: str) -> Path:
    """Return the output folder that a key names.

    Raises
    ------
    ConfigError
        If it is empty or no folder.
    """
    if not text:
        raise ConfigError(
            f"{key} is empty; expected the output folder of a run, "
            f"e.g. {key}=outputs/2026-01-31/12-00-00-demo"
        )
    path = Path(text).expanduser().resolve()
    if not path.is_dir():
        raise ConfigError(f"{key}={text}; expected an existing output folder; correct the path")
    return path


def experiment_of(run_dir: Path) -> Experiment | None:
    """Return the experiment that a run's config.yaml holds; None where there is none."""
    path = run_dir / "config.yaml"
    return read_config(path) if path.is_file() else None


def images_for(run_dir: Path, card: Any, asked: ScoredDataConfig) -> _ScoredImages:
    """Load the images that a model of the run is to be scored on.

    `run_dir`: the run's folder. `card`: of the model: its classes and how its images are prepared.
    `asked`: what differs from the run's own data.

    Raises
    ------
    ConfigError, DataError
        If the run's own test set is unknown, or the data cannot be used with the model.
    """
    base, seed = _data_of_run(run_dir, asked)
    own = _merged(replace(base, classes=list(card.classes)), asked)
    shape = {"image_size": card.image_size, "channels": card.channels, "frames": card.frames}
    wanted = replace(own, **shape, resize=card.resize)
    images, manifest, origin = _images(wanted, asked, own_split=base.split, seed=seed)
    doubts = filter(None, (_overlap(base, wanted, origin), *manifest.notes))
    return _ScoredImages(images, manifest, wanted, origin, "; ".join(doubts))


def _data_of_run(run_dir: Path, asked: ScoredDataConfig) -> tuple[DataConfig, int]:
    experiment = experiment_of(run_dir)
    if experiment:
        return experiment.data, experiment.seed
    if not asked.is_new:
        raise ConfigError(
            f"{run_dir / 'config.yaml'} is missing, so the run's own test set is unknown; "
            "expected data.root or data.manifest, e.g. data.root=scans"
        )
    return DataConfig(layout="auto"), 0


def _merged(base: DataConfig, asked: ScoredDataConfig) -> DataConfig:
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
    cfg: DataConfig, asked: ScoredDataConfig, *, own_split: str, seed: int
) -> tuple[Any, Any, str]:
    """Return the images, the manifest of all, and which of the data they are."""
    from primia_flwr.data.dataset import load_images, load_test
    from primia_flwr.data.reading.any_layout import in_split

    manifest = _manifest(cfg, seed=seed)
    if not asked.is_new and asked.split in (None, "auto", "test"):
        return load_test(replace(cfg, split=own_split), seed=seed), manifest, _OWN_TEST
    split = asked.split or "auto"
    if split == "auto":
        split = "test" if any(s.split == "test" for s in manifest.samples) else "all"
    return load_images(in_split(manifest, split), cfg), manifest, split


def _manifest(cfg: DataConfig, *, seed: int) -> Any:
    """List the images with the model's classes; classes without an image are allowed."""
    from primia_flwr.data.reading.any_layout import read_manifest

    try:
        manifest = read_manifest(cfg, seed=seed)
        found = manifest.classes
    except DataError as error:
        if TASKS[cfg.task].masked or TASKS[cfg.task].several:
            raise
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
    if origin in ("test", _OWN_TEST):
        return ""
    if wanted.layout == "synthetic":
        same = base.layout == "synthetic" and base.synthetic == wanted.synthetic
    elif wanted.manifest or base.manifest:
        same = resolved(wanted.manifest) == resolved(base.manifest)
    else:
        old, new = resolved(base.root), resolved(wanted.root)
        same = bool(base.root) and (old == new or old in new.parents or new in old.parents)
    if not same:
        return ""
    return (
        "these images may include some that the model was trained on; "
        "without data.root and data.split the run's own test set is scored"
    )


def resolved(text: str) -> Path:
    """Return an absolute path."""
    return Path(text).expanduser().resolve()
