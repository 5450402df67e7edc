"""A CSV manifest: `path,label[,patient,site,split]`."""

from pathlib import Path, PurePosixPath

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.layouts.common import SPLIT_FOLDERS, class_names, existing_root, is_synthetic
from primia_flwr.data.layouts.folder import own_patient
from primia_flwr.data.manifest import COLUMNS, Manifest, Sample
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.storage import plain_csv
from primia_flwr.storage.printable import printable
from primia_flwr.storage.reading import reading

_Row = dict[str, str]


def read_table(cfg: DataConfig, *, seed: int) -> Manifest:
    """Read `data.manifest`; paths count from `data.root`, or from the manifest's folder.

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
    rows = _read_rows(path, cfg.patient_column)
    classes = class_names(cfg, (row["label"] for row in rows), where=path.name)
    index = {name: label for label, name in enumerate(classes)}
    samples = [_sample(root, row, index, cfg.patient_column) for row in rows]
    _refuse_repeated(path, samples)
    ordered = tuple(sorted(samples, key=lambda sample: sample.path))
    return Manifest(root, classes, ordered, is_synthetic(root))


def _read_rows(path: Path, patient: str) -> list[_Row]:
    expected = "a CSV file in UTF-8"
    with (
        reading(f"data.manifest={path}:", error=DataError, expected=expected),
        path.open(newline="", encoding="utf-8-sig") as file,
    ):
        reader = plain_csv.DictReader(file)
        header = list(reader.fieldnames or [])
        lines = list(enumerate(reader, start=2))
    _check_header(path, header, patient)
    rows = [_checked_row(path, number, row) for number, row in lines]
    if not rows:
        raise DataError(f"{path}: has no rows; expected one line for each image")
    return rows


def _check_header(path: Path, header: list[str], patient: str) -> None:
    unknown = [name for name in header if name not in (*COLUMNS, patient)]
    if patient != DataConfig.patient_column and patient not in header:
        raise DataError(
            f"{path}: first line is {header!r:.200}; expected a column {patient!r}, which "
            "data.patient_column names"
        )
    if {"path", "label"} <= set(header) and not unknown and len(set(header)) == len(header):
        return
    raise DataError(
        f"{path}: first line is {header!r:.200}; expected path,label and optionally "
        "patient,site,split, separated by commas"
    )


def _checked_row(path: Path, number: int, row: dict[str, str | None]) -> _Row:
    values = {name: (value or "").strip() for name, value in row.items() if name is not None}
    for name in ("path", "label"):
        if None in row or not values[name]:
            raise DataError(
                f"{path}, line {number}: {name} is {values[name]!r:.80} and the line is "
                f"{list(values)}; expected one value for each column of the first line"
            )
    return values


def _sample(root: Path, row: _Row, index: dict[str, int], patient: str) -> Sample:
    path = _inside(root, row["path"])
    split = row.get("split", "").lower()
    if split and split not in SPLIT_FOLDERS:
        raise DataError(f"{path!r:.200}: split={split!r:.40}; expected train, val, test or nothing")
    return Sample(
        path,
        index[row["label"]],
        row.get(patient) or own_patient(path),
        row.get("site", ""),
        SPLIT_FOLDERS.get(split, ""),
    )


def _inside(root: Path, text: str) -> str:
    path = Path(text)
    if path.is_absolute() and path.is_relative_to(root):
        path = path.relative_to(root)
    posix = PurePosixPath(path.as_posix())
    if posix.is_absolute() or ".." in posix.parts:
        raise DataError(
            f"{printable(text, limit=200)}: leads out of {root}; expected a path below it: set "
            "data.root to a folder that holds all images"
        )
    return str(posix)


def _refuse_repeated(path: Path, samples: list[Sample]) -> None:
    seen: set[str] = set()
    for sample in samples:
        if sample.path in seen:
            raise DataError(
                f"{path}: names {printable(sample.path, limit=200)} twice; expected each once"
            )
        seen.add(sample.path)


LAYOUT = read_table
