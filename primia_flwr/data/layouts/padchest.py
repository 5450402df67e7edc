"""PadChest: one table with a list of labels an image, written as Python writes it.

Source: Bustos et al. 2020; the columns are those of the released table.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.layouts.manifest import inside
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.data.names import key_of
from primia_flwr.data.reading.common import existing_root
from primia_flwr.data.reading.labels import MISSING, Labelled, finding_names, labelled_manifest
from primia_flwr.data.reading.table import read_columns
from primia_flwr.errors import DataError
from primia_flwr.storage.printable import printable

_COLUMNS = {"ImageID": "ImageID", "PatientID": "PatientID", "Labels": "Labels"}
_PERHAPS = {"ImageDir": "ImageDir", "StudyID": "StudyID"}
_NAME = r"""(?:'([^'\\\n]*)'|"([^"\\\n]*)")"""
_LIST = re.compile(rf"\[\s*+(?:{_NAME}\s*+(?:,\s*+{_NAME}\s*+)*,?\s*+)?\]")
_ONE = re.compile(_NAME)
_UNUSABLE = "exclude"


def _read_padchest(cfg: DataConfig, *, seed: int) -> Manifest:
    """Read the table in `data.root`, or the one that `data.manifest` names.

    Images lie in the root, or in folders that the column ImageDir numbers. What an image's list
    does not name is absent; images without a list, or with the label `exclude`, are left out.

    Raises
    ------
    ConfigError
        If `data.classes` names no findings, or `data.root` is empty.
    DataError
        If the table is missing or does not follow the layout.
    """
    findings, root = finding_names(cfg), existing_root(cfg)
    path = Path(cfg.manifest).expanduser().resolve() if cfg.manifest else _table(root)
    rows, left_out = [], Counter[str]()
    for number, row in read_columns(path, _COLUMNS, optional=_PERHAPS):
        where = f"{path}, line {number}"
        if not row["PatientID"]:
            raise DataError(f"{where}: PatientID is empty; expected one in every line")
        named = _names(row["Labels"], where)
        if not named or _UNUSABLE in named:
            left_out[f"label {_UNUSABLE}" if named else "no label"] += 1
            continue
        place, study = inside(root, _place(root, row), where=where), row.get("StudyID", "")
        image = Sample(place, 0, row["PatientID"], study=study)
        rows.append(Labelled(image, tuple(int(key_of(name) in named) for name in findings)))
    note = f"{left_out.total()} image(s) without labels or with {_UNUSABLE!r} are left out"
    manifest = labelled_manifest(cfg, root, rows, where=str(path)).leaving(left_out)
    return manifest.noting(note) if left_out else manifest


def _table(root: Path) -> Path:
    found = sorted([*root.glob("PADCHEST*.csv"), *root.glob("PADCHEST*.csv.gz")])
    if len(found) == 1:
        return found[0]
    raise DataError(
        f"{root}: has {len(found)} tables PADCHEST*.csv or .csv.gz; expected one: correct "
        "data.root, or name it in data.manifest"
    )


def _names(cell: str, where: str) -> Sequence[str]:
    """Return the labels of a list, in one spelling; nothing is executed."""
    if key_of(cell) in MISSING:
        return ()
    if not _LIST.fullmatch(cell):
        raise DataError(
            f"{where}: Labels is {printable(cell, limit=120)!r}; expected a list of names, e.g. "
            "['cardiomegaly', 'pleural effusion']"
        )
    named = (key_of(single or double) for single, double in _ONE.findall(cell))
    return tuple(name for name in named if name)


def _place(root: Path, row: dict[str, str]) -> str:
    """Return where an image lies; a folder's number may have been saved as 3.0."""
    folders = (row.get("ImageDir", ""), key_of(row.get("ImageDir", "")))
    paths = [f"{folder}/{row['ImageID']}" for folder in folders if folder]
    return next((path for path in paths if os.path.exists(root / path)), row["ImageID"])


LAYOUT = _read_padchest
