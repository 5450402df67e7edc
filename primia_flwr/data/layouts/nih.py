"""NIH ChestX-ray14: `Data_Entry_2017*.csv` with the findings of an image in one cell.

Source: Wang et al. 2017; names and columns are those of the released files.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.layouts.manifest import inside
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.data.reading.common import existing_root
from primia_flwr.data.reading.labels import Labelled, finding_names, labelled_manifest
from primia_flwr.data.reading.table import read_columns
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.storage.printable import printable
from primia_flwr.storage.reading import read_text, reading

_NO_FINDING = "No Finding"
_FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis",
    "Hernia", "Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax",
)  # fmt: skip
_COLUMNS = {
    "Image Index": "Image Index",
    "Finding Labels": "Finding Labels",
    "Patient ID": "Patient ID",
}
_LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}


def _read_nih(cfg: DataConfig, *, seed: int) -> Manifest:
    """Read the table in `data.root`, or the one that `data.manifest` names.

    Images lie in the root, in `images`, or in `images_001/images` and so on. Where both lists of
    the official split are there, it is taken; one alone is said, as are files of one name.

    Raises
    ------
    ConfigError
        If `data.classes` names none of the fourteen findings, or another one.
    DataError
        If the table is missing or does not follow the layout.
    """
    findings, root = finding_names(cfg), existing_root(cfg)
    if others := [name for name in findings if name not in _FINDINGS]:
        raise ConfigError(
            f"data.classes names {printable(others[0], limit=80)!r}; expected findings of "
            f"data.layout=nih: {', '.join(_FINDINGS)}"
        )
    path = Path(cfg.manifest).expanduser().resolve() if cfg.manifest else _table(root)
    found, splits = _places(root), _splits(root)
    places = {name: folders[0] for name, folders in found.items()}
    rows = []
    for number, row in read_columns(path, _COLUMNS):
        where, name = f"{path}, line {number}", row["Image Index"]
        if not row["Patient ID"]:
            raise DataError(f"{where}: Patient ID is empty; expected one in every line")
        if splits and name not in splits:
            raise DataError(
                f"{where}: {printable(name, limit=200)} is in none of {', '.join(_LISTS)}; "
                "expected it in one: take the lists out of data.root for a split of your own"
            )
        image = Sample(
            inside(root, places.get(name, f"images/{name}"), where=where), 0, row["Patient ID"],
            split=splits.get(name, ""),
        )  # fmt: skip
        rows.append(Labelled(image, _labels(row["Finding Labels"], findings, where)))
    return labelled_manifest(cfg, root, rows, where=str(path)).noting(_alone(root), _twice(found))


def _table(root: Path) -> Path:
    found = sorted([*root.glob("Data_Entry_2017*.csv"), *root.glob("Data_Entry_2017*.csv.gz")])
    if len(found) == 1:
        return found[0]
    raise DataError(
        f"{root}: has {len(found)} tables Data_Entry_2017*.csv or .csv.gz; expected one: correct "
        "data.root, or name it in data.manifest"
    )


def _labels(cell: str, findings: Sequence[str], where: str) -> tuple[int, ...]:
    """Return 1 for what a cell names and 0 for the rest: A|B, or No Finding."""
    named = [name.strip() for name in cell.split("|")]
    wrong = [name for name in named if name not in (*_FINDINGS, _NO_FINDING)]
    if wrong or (_NO_FINDING in named and len(named) > 1):
        raise DataError(
            f"{where}: Finding Labels is {printable(cell, limit=200)!r}; expected "
            f"{_NO_FINDING}, or of {', '.join(_FINDINGS)} what is there, joined by |"
        )
    return tuple(int(name in named) for name in findings)


def _places(root: Path) -> dict[str, list[str]]:
    """Return where each image file lies, by its name."""
    found: dict[str, list[str]] = {}
    folders = [root, *sorted(root.glob("images*")), *sorted(root.glob("images*/images"))]
    for folder in (folder for folder in folders if folder.is_dir()):
        below = folder.relative_to(root)
        for entry in os.scandir(folder):
            if entry.is_file():
                found.setdefault(entry.name, []).append((below / entry.name).as_posix())
    return found


def _twice(places: Mapping[str, list[str]]) -> str:
    twice = [found for found in places.values() if len(found) > 1]
    if not twice:
        return ""
    first = printable(" and ".join(min(twice)), limit=200)
    return f"{len(twice)} image(s) lie in two folders, e.g. {first}: the first is read"


def _alone(root: Path) -> str:
    """Say that one list is there, of which no split can be made."""
    there = [name for name in _LISTS if (root / name).is_file()]
    if len(there) != 1:
        return ""
    return f"{there[0]} is there without the other list: the official split is not taken"


def _splits(root: Path) -> dict[str, str]:
    """Return the part of the official split of each image; nothing without both lists."""
    if not all((root / name).is_file() for name in _LISTS):
        return {}
    found: dict[str, str] = {}
    for name, split in _LISTS.items():
        with reading(root / name, error=DataError, expected="one name of an image a line"):
            listed = read_text(root / name).removeprefix("\ufeff").split()
        if not listed:
            raise DataError(
                f"{root / name}: names no image; expected one name a line, or neither list in "
                "data.root"
            )
        both = [one for one in listed if found.get(one, split) != split]
        if both:
            raise DataError(
                f"{root / name}: {printable(both[0], limit=200)} is in both lists; expected each "
                "image in one"
            )
        found |= dict.fromkeys(listed, split)
    return found


LAYOUT = _read_nih
