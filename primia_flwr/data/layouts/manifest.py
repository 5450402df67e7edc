"""A CSV manifest: `path,label[,patient,site,split]`, or columns of other names.

For a task with masks it is `path,mask[,...]`; for one of several findings, `path,<finding>,...`.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.rows import TASKS
from primia_flwr.data.layouts.folder import PatientOf, header_patient, patient_reader
from primia_flwr.data.layouts.paired import mask_values
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.data.names import is_placeholder, key_of, own_patient, spellings
from primia_flwr.data.reading.common import (
    SPLIT_FOLDERS,
    existing_root,
    find_classes,
    generated_note,
    is_synthetic,
)
from primia_flwr.data.reading.labels import Labelled, finding_names, label_in, labelled_manifest
from primia_flwr.data.reading.table import Row, Table, read_columns, read_rows
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.storage.printable import printable

_FACTS = ("path", "patient", "site", "split", "study")
_UNCERTAIN = re.compile(r"-0*1(?:[.,]0*)?|u|unc|uncertain")


def read_table(cfg: DataConfig, *, seed: int) -> Manifest:
    """Read `data.manifest`; paths count from `data.root`, or from the manifest's folder.

    The patient is what the table says; where it does not, `data.patient_pattern` searched in the
    path, or the PatientID of a DICOM file; else the image is taken as a patient of its own.

    Raises
    ------
    ConfigError
        If `data.manifest` is empty.
    DataError
        If the file cannot be read, lacks a column or a value, names an image twice, or a path
        leaves the root.
    """
    if not cfg.manifest:
        raise ConfigError("data.manifest is empty; expected a CSV file, e.g. data.manifest=a.csv")
    path = Path(cfg.manifest).expanduser().resolve()
    root = existing_root(cfg) if cfg.root else path.parent
    if TASKS[cfg.task].several:
        return _with_findings(path, root, cfg)
    table = read_rows(path, cfg)
    if TASKS[cfg.task].masked:
        return _with_masks(path, root, table, cfg)
    certain = _settled(path, table.rows, cfg)
    classes = find_classes(cfg, (row["label"] for row in certain.rows), where=path.name)
    pattern = patient_reader(cfg) if "patient" not in table.columns else None
    samples = [_sample(path, root, row, classes.label_of, pattern) for row in certain.rows]
    _refuse_repeated(path, samples)
    ordered = tuple(sorted(samples, key=lambda sample: sample.path))
    manifest = Manifest(root, classes.names, ordered, is_synthetic(root))
    dropped = {"uncertain label": len(table.rows) - len(certain.rows)}
    notes = (*table.notes, certain.note, *classes.notes, _site_note(certain.rows))
    notes = (*notes, generated_note(cfg))
    return manifest.noting(*notes).leaving(dropped)


def _with_masks(path: Path, root: Path, table: Table, cfg: DataConfig) -> Manifest:
    """Read a table whose rows name a mask each; its paths are as those of the images."""
    values = mask_values(cfg)
    pattern = patient_reader(cfg) if "patient" not in table.columns else None
    samples = [
        replace(
            _sample(path, root, row, None, pattern), mask=inside(root, row["mask"], where=str(path))
        )
        for row in table.rows
    ]
    _refuse_repeated(path, samples)
    ordered = tuple(sorted(samples, key=lambda sample: sample.path))
    classes = tuple(cfg.classes)
    found = Manifest(root, classes, ordered, is_synthetic(root), mask_values=values)
    return found.noting(*table.notes, _site_note(table.rows))


def _with_findings(path: Path, root: Path, cfg: DataConfig) -> Manifest:
    """Read a table with a column for each of `data.classes`: 1, 0, -1 (uncertain) or nothing."""
    columns = {name: cfg.columns.get(name, name) for name in _FACTS}
    if "patient" not in cfg.columns:
        columns["patient"] = cfg.patient_column
    findings = finding_names(cfg, columns.values())
    needed = {"path": columns.pop("path"), **{f"finding {name}": name for name in findings}}
    asked = {key: name for key, name in columns.items() if key in cfg.columns}
    rows = read_columns(path, {**needed, **asked}, optional=columns)
    pattern = patient_reader(cfg) if "patient" not in rows[0][1] else None
    found = [
        Labelled(
            _sample(path, root, row, None, pattern),
            tuple(
                label_in(row[f"finding {name}"], f"{path}, line {number}: {name}")
                for name in findings
            ),
        )
        for number, row in rows
    ]
    site_note = _site_note([row for _, row in rows])
    return labelled_manifest(cfg, root, found, where=str(path)).noting(site_note)


def _site_note(rows: Sequence[Row]) -> str:
    names = spellings({row.get("site", "") for row in rows} - {""})
    alike = [group for group in names.values() if len(group) > 1]
    return f"sites that differ in case, white space or form only: {alike[0]}" if alike else ""


@dataclass(frozen=True)
class _Certain:
    rows: Sequence[Row]
    note: str = ""


def _settled(path: Path, rows: Sequence[Row], cfg: DataConfig) -> _Certain:
    """Do with uncertain labels what `data.uncertain` says."""
    doubtful = _uncertain_labels(rows)
    count = sum(row["label"] in doubtful for row in rows)
    if not count:
        return _Certain(rows, _no_effect(rows, cfg))
    what = f"{count} row(s) have the label {sorted(doubtful)[0]!r:.40}, uncertain"
    choices = "drop, negative, positive or keep"
    if cfg.uncertain == "refuse":
        raise DataError(
            f"{path}: {what}; expected none with data.uncertain=refuse; set it to {choices}"
        )
    if cfg.uncertain == "keep":
        return _Certain(rows, f"{what}: a class of its own unless data.uncertain={choices}")
    if cfg.uncertain == "drop":
        return _Certain([r for r in rows if r["label"] not in doubtful], f"{what}: left out")
    wanted = {"negative": "0", "positive": "1"}[cfg.uncertain]
    named = Counter(row["label"] for row in rows if key_of(row["label"]) in (wanted, cfg.uncertain))
    if not named:
        raise DataError(
            f"{path}: data.uncertain={cfg.uncertain}, but no row has the label {wanted} or "
            f"{cfg.uncertain}; expected one: set it to drop, or relabel the rows"
        )
    best = min(named, key=lambda name: (-named[name], name))
    settled = [{**r, "label": best} if r["label"] in doubtful else r for r in rows]
    return _Certain(settled, f"{what}: taken as {cfg.uncertain}, the class {best!r:.40}")


def _no_effect(rows: Sequence[Row], cfg: DataConfig) -> str:
    """Say that `data.uncertain` does nothing, although a label looks as if it should."""
    looks = {row["label"] for row in rows if _UNCERTAIN.fullmatch(key_of(row["label"]))}
    if cfg.uncertain in ("keep", "refuse") or not looks:
        return ""
    return (
        f"the label {min(looks)!r:.40} is a class: data.uncertain={cfg.uncertain} is of a label -1 "
        "beside 0 and 1"
    )


def _uncertain_labels(rows: Sequence[Row]) -> set[str]:
    """Labels that say uncertain: -1 beside 0 and 1 (as in CheXpert), or the word."""
    labels = {row["label"]: key_of(row["label"]) for row in rows}
    found = {label for label, key in labels.items() if _UNCERTAIN.fullmatch(key)}
    if {"0", "1"} <= set(labels.values()):
        return found
    return {label for label in found if labels[label] == "uncertain"}


def _sample(
    table: Path, root: Path, row: Row, label_of: Mapping[str, int] | None, pattern: PatientOf | None
) -> Sample:
    path = inside(root, row["path"], where=str(table))
    split = key_of(row.get("split", ""))
    if split and split not in SPLIT_FOLDERS:
        raise DataError(
            f"{table}: {path!r:.200} has the split {row['split']!r:.40}; expected train, val, test "
            "or nothing: correct the column"
        )
    return Sample(
        path,
        label_of[row["label"]] if label_of is not None else 0,
        pattern(root, root / path) if pattern else _patient(root, path, row.get("patient", "")),
        row.get("site", ""),
        SPLIT_FOLDERS.get(split, ""),
        study=row.get("study", ""),
    )


def _patient(root: Path, path: str, named: str) -> str:
    """Patient of a row: as the table says, unless that is a placeholder and the header knows."""
    if named and not is_placeholder(named):
        return named
    header = header_patient(root / path)
    if header and not is_placeholder(header):
        return header
    return named or header or own_patient(path)


def inside(root: Path, text: str, *, where: str) -> str:
    """Return a path below the root; one written on Windows, with backslashes, is read as such.

    `where` begins the sentence that refuses it.

    Raises
    ------
    DataError
        If it leads out of the root.
    """
    path = Path(next((form for form in _forms(text) if os.path.exists(root / form)), text))
    if "\\" in text and not os.path.exists(root / path):
        path = Path(PureWindowsPath(text).as_posix())
    if path.is_absolute() and path.is_relative_to(root):
        path = path.relative_to(root)
    posix = PurePosixPath(path.as_posix())
    if posix.is_absolute() or ".." in posix.parts or PureWindowsPath(text).drive:
        raise DataError(
            f"{where}: the path {printable(text, limit=200)} leads out of {root}; expected one "
            "below it: set data.root to a folder that holds all images"
        )
    return str(posix)


def _forms(text: str) -> Iterator[str]:
    """Yield a path as it is written, and in the Unicode forms of other systems."""
    yield text
    yield from (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))


def _refuse_repeated(path: Path, samples: list[Sample]) -> None:
    seen: set[str] = set()
    for sample in samples:
        if sample.path in seen:
            raise DataError(
                f"{path}: names {printable(sample.path, limit=200)} twice; expected each once"
            )
        seen.add(sample.path)


LAYOUT = read_table
