"""MIMIC-CXR: the tables of labels and of the split, and files in folders of patient and study.

Source: Johnson et al. 2019; names and columns are those of the released files.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.layouts.chexpert import HEALTHY, columns_of, labels_of
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.data.reading.common import existing_root
from primia_flwr.data.reading.labels import Labelled, finding_names, labelled_manifest
from primia_flwr.data.reading.table import Row, read_columns
from primia_flwr.errors import DataError
from primia_flwr.storage.printable import printable

_SPLIT_COLUMNS = {name: name for name in ("dicom_id", "subject_id", "study_id", "split")}
_SPLITS = {"train": "train", "validate": "val", "test": "test"}
_NUMBER = re.compile(r"\d{1,12}")
_DICOM = re.compile(r"[0-9a-zA-Z-]{1,80}")
_SUFFIXES = (".jpg", ".dcm", ".png")


def _read_mimic_cxr(cfg: DataConfig, *, seed: int) -> Manifest:
    """Read `mimic-cxr-2.0.0-chexpert.csv` and `-split.csv` in `data.root`, perhaps `.gz`.

    `data.manifest` may name another table of labels with the same columns, e.g. NegBio's. An image
    is `files/p10/p10000032/s50414267/<dicom_id>.jpg`, or `.dcm`. Images of a study without
    labels are left out, and counted.

    Raises
    ------
    ConfigError
        If `data.classes` names no findings, or `data.root` is empty.
    DataError
        If a table is missing or does not follow the layout.
    """
    findings, root = finding_names(cfg), existing_root(cfg)
    labels = Path(cfg.manifest).expanduser().resolve() if cfg.manifest else _table(root, "chexpert")
    of_study = _study_labels(labels, findings)
    path = _table(root, "split")
    rows, without = [], 0
    for number, row in read_columns(path, _SPLIT_COLUMNS):
        where = f"{path}, line {number}"
        split = _SPLITS.get(row["split"])
        if split is None or not _DICOM.fullmatch(row["dicom_id"]):
            raise DataError(
                f"{where}: dicom_id is {printable(row['dicom_id'], limit=80)!r} and split "
                f"{printable(row['split'], limit=40)!r}; expected the name of a file, and one of "
                f"{', '.join(_SPLITS)}"
            )
        study = _study(row, where)
        if study not in of_study:
            without += 1
            continue
        place = _place(root, *study, row["dicom_id"])
        image = Sample(place, 0, study[0], split=split, study=study[1])
        rows.append(Labelled(image, of_study[study]))
    note = f"{without} image(s) of studies without labels are left out" if without else ""
    manifest = labelled_manifest(cfg, root, rows, where=f"{path} with {labels.name}")
    return manifest.noting(note).leaving({"study without labels": without})


def _table(root: Path, what: str) -> Path:
    names = [f"mimic-cxr-2.0.0-{what}.csv{suffix}" for suffix in ("", ".gz")]
    for name in names:
        if (root / name).is_file():
            return root / name
    raise DataError(f"{root}: has no {names[0]} or .gz; expected one: correct data.root")


def _study_labels(path: Path, findings: Sequence[str]) -> Mapping[tuple[str, str], tuple[int, ...]]:
    """Return the labels of each study, by patient and study."""
    keys = {"subject_id": "subject_id", "study_id": "study_id"}
    found: dict[tuple[str, str], tuple[int, ...]] = {}
    for number, row in read_columns(path, {**keys, **columns_of(findings)}, optional=HEALTHY):
        where = f"{path}, line {number}"
        study = _study(row, where)
        if study in found:
            raise DataError(f"{where}: study {study[1]} occurs twice; expected each study once")
        found[study] = labels_of(row, findings, where)
    return found


def _study(row: Row, where: str) -> tuple[str, str]:
    patient, study = row["subject_id"], row["study_id"]
    if _NUMBER.fullmatch(patient) and _NUMBER.fullmatch(study):
        return patient, study
    raise DataError(
        f"{where}: subject_id is {printable(patient, limit=40)!r} and study_id "
        f"{printable(study, limit=40)!r}; expected numbers, e.g. 10000032 and 50414267"
    )


def _place(root: Path, patient: str, study: str, dicom_id: str) -> str:
    folder = f"files/p{patient[:2]}/p{patient}/s{study}"
    for suffix in _SUFFIXES:
        if (root / folder / f"{dicom_id}{suffix}").exists():
            return f"{folder}/{dicom_id}{suffix}"
    return f"{folder}/{dicom_id}{_SUFFIXES[0]}"


LAYOUT = _read_mimic_cxr
