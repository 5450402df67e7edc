"""CheXpert: `train.csv` and `valid.csv` with a row an image and a column a finding.

Source: Irvin et al. 2019; the columns are those of the released files.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.layouts.manifest import inside
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.data.reading.common import existing_root
from primia_flwr.data.reading.labels import (
    UNMENTIONED,
    Labelled,
    finding_names,
    label_in,
    labelled_manifest,
)
from primia_flwr.data.reading.table import read_columns
from primia_flwr.errors import DataError
from primia_flwr.storage.printable import printable

NO_FINDING = "No Finding"
_DEVICES = "Support Devices"
_FILES = {"train.csv": "train", "valid.csv": "val", "test.csv": "test"}
_PATIENT = re.compile(r"(?:^|/)(patient\d+)/")


def _read_chexpert(cfg: DataConfig, *, seed: int) -> Manifest:
    """Read the tables in `data.root`, or the one that `data.manifest` names.

    Paths may begin with the name of the release's folder, whether the root is that folder or holds
    it. The patient is in the path.

    Raises
    ------
    ConfigError
        If `data.classes` names no findings, or `data.root` is empty.
    DataError
        If a table is missing or does not follow the layout.
    """
    findings, root = finding_names(cfg), existing_root(cfg)
    tables = {root / name: split for name, split in _FILES.items()}
    if cfg.manifest:
        given = Path(cfg.manifest).expanduser().resolve()
        tables = {given: _FILES.get(given.name, "")}
    found = {path: split for path, split in tables.items() if cfg.manifest or path.is_file()}
    if not found:
        raise DataError(
            f"{root}: has none of {', '.join(_FILES)}; expected CheXpert's tables: correct "
            "data.root, or name one in data.manifest"
        )
    rows = [row for path, split in found.items() for row in _rows(path, root, split, findings)]
    return labelled_manifest(cfg, root, rows, where=str(next(iter(found))))


def _rows(path: Path, root: Path, split: str, findings: Sequence[str]) -> list[Labelled]:
    lines = read_columns(path, {"Path": "Path", **columns_of(findings)}, optional=HEALTHY)
    return [
        Labelled(_sample(root, row["Path"], split, where), labels_of(row, findings, where))
        for where, row in ((f"{path}, line {number}", row) for number, row in lines)
    ]


def columns_of(findings: Sequence[str]) -> dict[str, str]:
    """Return the columns of findings, for `read_columns`; `labels_of` reads their cells."""
    return {f"finding {name}": name for name in findings}


HEALTHY = {NO_FINDING: NO_FINDING}
"""The column that says that a report mentions no finding, for `read_columns`."""


def labels_of(row: Mapping[str, str], findings: Sequence[str], where: str) -> tuple[int, ...]:
    """Return the labels of a row as CheXpert's labeller writes them.

    Where it says that nothing was found, what is not mentioned is absent; devices apart, which
    are no finding.
    """
    healthy = label_in(row.get(NO_FINDING, ""), f"{where}: {NO_FINDING}") == 1
    labels = []
    for name in findings:
        label = label_in(row[f"finding {name}"], f"{where}: {name}")
        absent = healthy and label == UNMENTIONED and name not in (NO_FINDING, _DEVICES)
        labels.append(0 if absent else label)
    return tuple(labels)


def _sample(root: Path, text: str, split: str, where: str) -> Sample:
    path = inside(root, text, where=where)
    first, _, rest = path.partition("/")
    if rest and first == root.name and not (root / first).exists():
        path = rest
    patient = _PATIENT.search(path)
    if not patient:
        raise DataError(
            f"{where}: the path {printable(text, limit=200)} names no patient; expected e.g. "
            "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg"
        )
    return Sample(path, 0, patient[1], split=split)


LAYOUT = _read_chexpert
