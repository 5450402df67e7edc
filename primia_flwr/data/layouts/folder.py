"""Class folders: `[train|val|test/]<class>/[<patient>/]<image>`, any number of classes."""

import re
from collections.abc import Callable
from pathlib import Path

from primia_flwr.config.checks import check_pattern
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.files.dicom import read_patient
from primia_flwr.data.files.listing import image_files, is_dicom
from primia_flwr.data.layouts.common import (
    class_names,
    existing_root,
    is_synthetic,
    no_images,
    split_folders,
    sub_folders,
)
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.errors import DataError

_PatientOf = Callable[[Path, Path], str]


def read_folder(cfg: DataConfig, *, seed: int) -> Manifest:
    """Read class folders.

    The patient of an image is, in this order: the group `patient` of `data.patient_pattern`
    searched in its path; the PatientID of a DICOM file; the folder between class and image;
    else the image is taken as a patient of its own.

    Raises
    ------
    DataError
        If the folder is missing, empty, or has a single class.
    ConfigError
        If `data.patient_pattern` is no regular expression with a group `patient`.
    """
    root = existing_root(cfg)
    patient_of = _patient_reader(cfg)
    found = [
        (split, folder.name, path)
        for split, parent in split_folders(root)
        for folder in sub_folders(parent)
        for path in image_files(folder)
    ]
    if not found:
        raise no_images(root, "folders <class>/<image>, or train/<class>/<image>")
    classes = class_names(cfg, (name for _, name, _ in found), where=str(root))
    index = {name: label for label, name in enumerate(classes)}
    samples = tuple(
        Sample(
            path.relative_to(root).as_posix(),
            index[name],
            patient_of(root, path),
            split=split,
        )
        for split, name, path in found
    )
    return Manifest(root, classes, samples, is_synthetic(root))


def own_patient(path: str) -> str:
    """Name of the patient of an image about whose patient nothing is known."""
    return f"image:{path}"


def _patient_reader(cfg: DataConfig) -> _PatientOf:
    if not cfg.patient_pattern:
        return _patient_of
    check_pattern("data.patient_pattern", cfg.patient_pattern)
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


def _patient_of(root: Path, path: Path) -> str:
    if is_dicom(path) and (patient := read_patient(path)):
        return patient
    parts = path.relative_to(root).parts[:-1]
    depth = 2 if split_folders(root)[0][0] else 1
    return "/".join(parts[depth:]) or own_patient(path.relative_to(root).as_posix())


LAYOUT = read_folder
