"""What all folder layouts share: the root, its split folders, and the names of classes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.errors import ConfigError, DataError

SYNTHETIC_NOTE = "SYNTHETIC.txt"
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def existing_root(cfg: DataConfig) -> Path:
    """Return `data.root` as an absolute path.

    Raises
    ------
    ConfigError
        If it is empty.
    DataError
        If it is no folder.
    """
    if not cfg.root:
        raise ConfigError("data.root is empty; expected a folder of images, e.g. data.root=scans")
    root = Path(cfg.root).expanduser().resolve()
    if not root.is_dir():
        raise DataError(
            f"data.root={cfg.root}; expected an existing folder, {root} is none: correct the path"
        )
    return root


def is_synthetic(root: Path) -> bool:
    """Whether a folder, or the one it lies in, says that its images were drawn by formula."""
    return any((folder / SYNTHETIC_NOTE).is_file() for folder in (root, root.parent))


def sub_folders(folder: Path) -> list[Path]:
    """Visible folders directly below, sorted."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith((".", "__MACOSX"))
    )


def split_folders(root: Path) -> list[tuple[str, Path]]:
    """Split names with their folders; [("", root)] where there are none.

    Beside a split folder, other folders are left alone: public archives carry a second copy.
    """
    found = [(SPLIT_FOLDERS.get(path.name.lower(), ""), path) for path in sub_folders(root)]
    named = [(split, path) for split, path in found if split]
    return named or [("", root)]


def class_names(cfg: DataConfig, found: Iterable[str], *, where: str) -> tuple[str, ...]:
    """Names of the classes in the order of the model's outputs.

    `data.classes` if given, else the names found, sorted (whole numbers by value).

    Raises
    ------
    DataError
        If a name is not in `data.classes`, or fewer than two classes remain.
    """
    names = sorted(set(found), key=_by_value)
    unknown = [name for name in names if cfg.classes and name not in cfg.classes]
    if unknown:
        raise DataError(
            f"{where}: class {unknown[0]!r:.80} is not in data.classes={list(cfg.classes)}; "
            "expected only these: add it there or take its images away"
        )
    classes: Sequence[str] = cfg.classes or names
    if len(classes) < 2:
        raise DataError(
            f"{where}: found {len(classes)} class(es) {list(classes)!r:.120}; expected at least "
            "two, as folders <class>/<image>, or named in data.classes"
        )
    return tuple(classes)


def no_images(root: Path, expected: str) -> DataError:
    """Error for a folder in which a layout finds nothing."""
    return DataError(f"{root}: found no images; expected {expected}: correct data.root")


def _by_value(name: str) -> tuple[float, str]:
    digits = name.removeprefix("-").isdecimal() and name.isascii()
    return (float(name) if digits else float("inf"), name)
