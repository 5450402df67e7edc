"""The public paediatric pneumonia layout: NORMAL and PNEUMONIA, told apart by file name.

Source: Kermany, Zhang, Goldbaum, Mendeley Data V2, doi:10.17632/rscbjbr9sj.2.
"""

import re
from pathlib import Path

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.files.listing import image_files, is_dicom, list_folder
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.data.reading.aside import with_aside
from primia_flwr.data.reading.common import (
    class_names,
    existing_root,
    is_synthetic,
    no_images,
    split_folders,
)
from primia_flwr.errors import DataError

_CLASSES = ("bacterial", "normal", "viral")
FOLDERS = ("NORMAL", "PNEUMONIA")
_NORMAL = re.compile(r"(?P<patient>(?:NORMAL2-)?IM-\d+)-")
_PNEUMONIA = re.compile(r"person(?P<number>\d+)_(?P<kind>bacteria|virus)_\d+")
_KINDS = {"bacteria": "bacterial", "virus": "viral"}


def parse_name(name: str) -> tuple[str, str]:
    """Class and patient of a file name.

    A patient is a person's number with the kind of infection (the numbers of the two kinds are
    independent), or the study number of a normal image.

    Raises
    ------
    DataError
        If the name follows neither pattern.
    """
    if match := _PNEUMONIA.match(name):
        return _KINDS[match["kind"]], f"person{match['number']}-{match['kind']}"
    if match := _NORMAL.match(name):
        return "normal", match["patient"]
    raise DataError(
        f"{name}: not a name of the pneumonia layout; expected IM-<n>-<m>, NORMAL2-IM-<n>-<m>, "
        "person<n>_bacteria_<m> or person<n>_virus_<m>: rename it or set data.layout=folder"
    )


def is_pneumonia(root: Path) -> bool:
    """Whether a folder (or its split folders) is the public set, or drawn under its names.

    NORMAL and PNEUMONIA hold images of the set's names, each its own kind: other programs name
    their exports IM-0001-0001, too. A DICOM file is never of the set.
    """
    for _, folder in split_folders(root):
        for name, pattern in zip(FOLDERS, (_NORMAL, _PNEUMONIA), strict=True):
            images = image_files(folder / name)
            if not images or not all(_is_of_set(path, pattern) for path in (images[0], images[-1])):
                return False
    return True


def read_pneumonia(cfg: DataConfig, *, seed: int) -> Manifest:
    """Read `[train|val|test/]{NORMAL,PNEUMONIA}/<image>` as three classes.

    Raises
    ------
    DataError
        If the folder is missing or empty, or a file's name or folder contradicts the layout.
    """
    root = existing_root(cfg)
    parents = split_folders(root)
    listings = {
        folder / name: (split, list_folder(folder / name))
        for split, folder in parents
        for name in FOLDERS
    }
    found = [
        (path.relative_to(root), *_class_and_patient(root, path), split)
        for split, listing in listings.values()
        for path in listing.images
    ]
    if not found:
        raise no_images(root, "[train/]NORMAL/ and [train/]PNEUMONIA/ with image files")
    present = {name for _, name, _, _ in found}
    classes = class_names(cfg, present if cfg.classes else _CLASSES, where=str(root))
    samples = tuple(
        Sample(path.as_posix(), classes.index(name), patient, split=split)
        for path, name, patient, split in found
    )
    return with_aside(
        Manifest(root, classes, samples, is_synthetic(root)),
        [folder for _, folder in parents],
        {folder: listing for folder, (_, listing) in listings.items() if folder.is_dir()},
    )


def _is_of_set(path: Path, pattern: re.Pattern[str]) -> bool:
    return bool(pattern.match(path.name)) and not is_dicom(path)


def _class_and_patient(root: Path, path: Path) -> tuple[str, str]:
    name, patient = parse_name(path.name)
    folder = FOLDERS[int(name != "normal")]
    relative = path.relative_to(root)
    if folder not in relative.parts:
        raise DataError(
            f"{relative}: a {name} image of the public set by its name; expected below {folder}/ "
            "in that set: for images of your own set data.layout=folder"
        )
    return name, patient


LAYOUT = read_pneumonia
