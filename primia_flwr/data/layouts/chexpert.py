"""CheXpert: `train.csv` and `valid.csv` with a row an image and a column a finding.

Source: Irvin et al. 2019; the columns are those of the released files.
"""

import os
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
_PATIENT = re.compile(r"(?:^|/)(patient\d+)/(?:(study\d+)/)?")


def _read_chexpert(cfg: DataConfig, *, seed: int) -> Manifest:
    """Read the tables in `data.root`, or the one that `data.manifest` names.

    Paths may begin with the name of the release's folder, whether the root is that folder, however
    it is called, or holds it. The patient and the study are in the path. Tables may be
    compressed, `.csv.gz`.

    Raises
    ------
    ConfigError
        If `data.classes` names no findings, or `data.root` is empty.
    DataError
        If a table is missing or does not follow the layout.
    """
    findings, root = finding_names(cfg), existing_root(cfg)
    found = _named(cfg.manifest) if cfg.manifest else _tables(root)
    rows = [row for path, split in found.items() for row in _rows(path, root, split, findings)]
    return labelled_manifest(cfg, root, rows, where=" and ".join(map(str, found)))


def _named(manifest: str) -> dict[Path, str]:
    path = Path(manifest).expanduser().resolve()
    return {path: _FILES.get(path.name.lower().removesuffix(".gz"), "")}


def _tables(root: Path) -> dict[Path, str]:
    """Return the tables of a folder, each with its split, in any case of letters."""
    files = {path.name.lower(): path for path in root.iterdir() if path.is_file()}
    found = {
        path: split
        for name, split in _FILES.items()
        if (path := files.get(name) or files.get(f"{name}.gz"))
    }
    if not found:
        raise DataError(
            f"{root}: has none of {', '.join(_FILES)} or .csv.gz; expected CheXpert's tables: "
            "correct data.root, or name one in data.manifest"
        )
    return found


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
    whole = inside(root, text, where=where)
    patient = _PATIENT.search(whole)
    if not patient:
        raise DataError(
            f"{where}: the path {printable(text, limit=200)} names no patient; expected e.g. "
            "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg"
        )
    return Sample(_below(root, whole), 0, patient[1], split=split, study=patient[2] or "")


def _below(root: Path, path: str) -> str:
    """Return a path without the folders at its beginning that the root does not hold."""
    parts = path.split("/")
    held = (k for k in range(len(parts)) if os.path.exists(root / parts[k]))
    return "/".join(parts[next(held, 0) :])


LAYOUT = _read_chexpert
