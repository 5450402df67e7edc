"""What all folder layouts share: the root, its split folders, and the names of classes."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.files.listing import leads_back, list_folder
from primia_flwr.data.names import key_of, one_spelling
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.storage.printable import printable

_WHOLE = re.compile(r"(-?[0-9]{1,300})(?:\.0*)?")
_SYNTHETIC_NOTE = "SYNTHETIC.txt"
_GENERATED_NOTE = "GENERATED.txt"
GENERATED = (
    "synthetic images, made by a generator that was trained with differential privacy on images of "
    "others; synthesis.json beside them says at which epsilon, and figures on them are not figures "
    "on patients"
)
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


def note_synthetic(folder: Path) -> None:
    """Write into a folder that its images were drawn by formula."""
    note = "Drawn by formula, of no patient: for demonstrations and tests only.\n"
    (folder / _SYNTHETIC_NOTE).write_text(note, encoding="utf-8")


def is_synthetic(root: Path) -> bool:
    """Whether a folder, or the one it lies in, says that its images were drawn by formula."""
    return any((folder / _SYNTHETIC_NOTE).is_file() for folder in (root, root.parent))


def note_generated(folder: Path) -> None:
    """Write into a folder that its images were made by a generator."""
    (folder / _GENERATED_NOTE).write_text(f"{GENERATED}\n", encoding="utf-8")


def generated_note(cfg: DataConfig) -> str:
    """Return what is to be said of images that a generator made; nothing of others."""
    place = Path(cfg.root or (Path(cfg.manifest).parent if cfg.manifest else "")).expanduser()
    named = bool(cfg.root or cfg.manifest)
    found = named and any((p / _GENERATED_NOTE).is_file() for p in (place, place.parent))
    return GENERATED if found else ""


def sub_folders(folder: Path) -> list[Path]:
    """Visible folders directly below, sorted; links to a folder they lie in are none."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith((".", "__MACOSX")) and not leads_back(path)
    )


def split_of(name: str) -> str:
    """Return the split that a folder's name stands for, however it is spelled, or nothing."""
    return SPLIT_FOLDERS.get(key_of(name), "")


def split_folders(root: Path) -> list[tuple[str, Path]]:
    """Split names with their folders; [("", root)] where there are none.

    Beside a split folder, other folders are left alone: public archives carry a second copy.
    """
    found = [(split_of(path.name), path) for path in sub_folders(root)]
    named = [(split, path) for split, path in found if split]
    return named or [("", root)]


@dataclass(frozen=True)
class Classes:
    """Names of the classes in the order of the model's outputs, and the label of each name found.

    `notes` say which names were taken for one.
    """

    names: tuple[str, ...]
    label_of: dict[str, int]
    notes: tuple[str, ...] = field(default=())


def find_classes(cfg: DataConfig, found: Iterable[str], *, where: str) -> Classes:
    """Return the classes: `data.classes` if given, else the names found, sorted.

    Names that differ in case, white space or Unicode form only are one class, unless
    `data.classes` names both. Whole numbers are sorted by value.

    Raises
    ------
    DataError
        If a name is not in `data.classes`, or fewer than two classes remain.
    """
    counts = Counter(found)
    spelled = {name: name for name in counts if name in cfg.classes}
    by_key = {key_of(name): name for name in reversed(cfg.classes)}
    rest = {name: count for name, count in counts.items() if name not in spelled}
    spelled |= {name: by_key.get(key_of(name), best) for name, best in one_spelling(rest).items()}
    names = class_names(cfg, spelled.values(), where=where)
    label_of = {name: names.index(best) for name, best in spelled.items()}
    merged = [f"{name!a} as {best!a}" for name, best in sorted(spelled.items()) if name != best]
    text = "classes that differ in case, white space or form only are taken for one: "
    return Classes(names, label_of, (text + ", ".join(merged),) if merged else ())


class OneClassError(DataError):
    """Images of one class, `name`, and no word of the others."""

    def __init__(self, sentence: str, name: str) -> None:
        super().__init__(sentence)
        self.name = name


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
        raise OneClassError(
            f"{where}: found {len(classes)} class(es) {list(classes)!r:.120}; expected at least "
            "two, as folders <class>/<image>, or named in data.classes",
            name="".join(classes),
        )
    return tuple(classes)


def no_images(root: Path, expected: str) -> DataError:
    """Error for a folder in which a layout finds nothing."""
    what = f"found no images{_instead(root)}"
    return DataError(f"{root}: {what}; expected {expected}: correct data.root")


def _instead(root: Path) -> str:
    """Say what a folder has where nothing was looked for, or that is not read."""
    found = list_folder(root)
    if found.images:
        first = printable(found.images[0].relative_to(root).as_posix(), limit=200)
        return f" where they should lie, but {len(found.images)} elsewhere, e.g. {first}"
    if not found.unread:
        return ""
    suffix, count = found.unread.most_common(1)[0]
    return (
        f", but {count} file(s) {'.' + suffix if suffix else 'without suffix'}, which are not read"
    )


def _by_value(name: str) -> tuple[float, str]:
    whole = _WHOLE.fullmatch(name)
    return (float(whole[1]) if whole else float("inf"), name)
