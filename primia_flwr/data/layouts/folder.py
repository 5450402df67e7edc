"""Class folders: `[train|val|test/]<class>/[<patient>/[<study>/]]<image>`, of any number."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.census import read_header
from primia_flwr.data.files.listing import list_folder
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.data.names import is_placeholder, key_of, own_patient
from primia_flwr.data.reading.aside import with_aside
from primia_flwr.data.reading.common import (
    existing_root,
    find_classes,
    generated_note,
    is_synthetic,
    no_images,
    split_folders,
    split_of,
    sub_folders,
)
from primia_flwr.errors import DataError
from primia_flwr.storage.printable import printable

PatientOf = Callable[[Path, Path], str]


def read_folder(cfg: DataConfig, *, seed: int) -> Manifest:
    """Read class folders.

    The patient of an image is, in this order: the group `patient` of `data.patient_pattern`
    searched in its path; the PatientID of a DICOM file, unless it is a placeholder; the folder
    directly below the class, whatever lies deeper; else the image is taken as a patient of its own.

    Raises
    ------
    DataError
        If the folder is missing, empty, or has a single class.
    ConfigError
        If `data.patient_pattern` is no regular expression with a group `patient`.
    """
    root = existing_root(cfg)
    parents = split_folders(root)
    depth = 2 if parents[0][0] else 1
    patient_of = patients_by_path(cfg, depth)
    listings = {
        folder: (split, list_folder(folder))
        for split, parent in parents
        for folder in sub_folders(parent)
    }
    found = [
        (split, folder.name, path)
        for folder, (split, listing) in listings.items()
        for path in listing.images
    ]
    if not found:
        raise no_images(root, "folders <class>/<image>, or train/<class>/<image>")
    classes = find_classes(cfg, (name for _, name, _ in found), where=str(root))
    samples = tuple(
        Sample(
            path.relative_to(root).as_posix(),
            classes.label_of[name],
            patient_of(root, path),
            split=split,
        )
        for split, name, path in found
    )
    deep = "" if cfg.patient_pattern else _deeper(depth, [sample.path for sample in samples])
    mixed = "" if cfg.patient_pattern else _several_ids(depth, samples)
    manifest = Manifest(root, classes.names, samples, is_synthetic(root))
    return with_aside(
        manifest.noting(*classes.notes, deep, mixed, generated_note(cfg)),
        [parent for _, parent in parents],
        {folder: listing for folder, (_, listing) in listings.items()},
    )


def patients_by_path(cfg: DataConfig, depth: int) -> PatientOf:
    """Return who is on an image in folders, of which `depth` from the root name no patient."""
    return patient_reader(cfg) or partial(_patient_of, depth)


def patient_reader(cfg: DataConfig) -> PatientOf | None:
    """Return what searches `data.patient_pattern` in a path; None if there is no pattern."""
    if not cfg.patient_pattern:
        return None
    pattern = re.compile(cfg.patient_pattern)

    def search(root: Path, path: Path) -> str:
        relative = path.relative_to(root).as_posix()
        match = pattern.search(relative)
        if match and match["patient"]:
            return str(match["patient"])
        raise DataError(
            f"{relative}: data.patient_pattern={cfg.patient_pattern} does not match; expected a "
            "patient in every path: correct the pattern or the file's name"
        )

    return search


def header_patient(path: Path) -> str:
    """PatientID of a DICOM file; a placeholder as it is, and nothing if it names nobody."""
    header = read_header(path)
    return header.patient if header is not None else ""


def _patient_of(depth: int, root: Path, path: Path) -> str:
    named = header_patient(path)
    if named and not is_placeholder(named):
        return named
    relative = path.relative_to(root)
    folders = relative.parts[depth:-1]
    return (folders[0] if folders else named) or own_patient(relative.as_posix())


def _several_ids(depth: int, samples: Sequence[Sample]) -> str:
    """Say that a folder which may be a patient's holds several: a PatientID may be of a study."""
    ids: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for sample in samples:
        parts = PurePosixPath(sample.path).parts
        if len(parts) > depth + 1:
            ids[parts[: depth + 1]].add(key_of(sample.patient))
    mixed = [folder for folder, names in ids.items() if len(names) > 1]
    if not mixed:
        return ""
    return (
        f"{len(mixed)} folder(s) below a class hold several PatientIDs, e.g. "
        f"{printable('/'.join(mixed[0]), limit=200)}: each ID is taken for a patient; if the "
        "folder is one, set data.patient_pattern"
    )


def _deeper(depth: int, paths: Sequence[str]) -> str:
    """Say that folders below a patient's are not patients, and warn of splits below a class."""
    between = {path: PurePosixPath(path).parts[depth:-1] for path in paths}
    firsts = {folders[0] for folders in between.values() if folders}
    if splits := sorted(filter(split_of, firsts)):
        return (
            f"folders {splits} lie below classes and are taken for patients; expected "
            "train/<class>/<image>: move them"
        )
    deep = [path for path, folders in between.items() if len(folders) > 1]
    if not deep:
        return ""
    return (
        f"{len(deep)} image(s) lie deeper than <class>/<patient>/<image>, e.g. "
        f"{printable(deep[0], limit=200)}: the folder directly below the class is taken for the "
        f"patient, {len(firsts)} in all; set data.patient_pattern if another one is"
    )


LAYOUT = read_folder
