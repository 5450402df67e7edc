"""Where copies go: names of folders and files that name nobody, and keep who belongs together.

With classes a copy is `[split/]class/[patient/]image`, without them it lies as deep as its original
and every folder has a pseudonym, since nothing tells a class from a patient.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.files.dicom import read_patient
from primia_flwr.data.files.listing import Listing, is_dicom, list_folder
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.data.names import is_own
from primia_flwr.data.pseudonyms import Pseudonyms
from primia_flwr.data.reading.any_layout import in_split, read_manifest
from primia_flwr.errors import ConfigError, DataError

_PLAIN = re.compile(r"[^\W_][\w .+-]{0,63}")


@dataclass(frozen=True)
class Place:
    """An original, by its path below the root, and its copy, by that without a suffix.

    `patient` is the pseudonym, empty where nobody knows whose image it is. `label`, `site` and
    `split` are those of a manifest.
    """

    source: str
    target: str
    patient: str
    label: str = ""
    site: str = ""
    split: str = ""


@dataclass(frozen=True)
class Plan:
    """Every image below a root with its place, and files that get none, by path with the reason."""

    root: Path
    places: tuple[Place, ...]
    left_out: dict[str, str]
    no_images: dict[str, int]


def plan(cfg: DataConfig, pseudonyms: Pseudonyms, *, seed: int) -> Plan:
    """Say where each image goes.

    With `data.classes` or `data.manifest` the data's layout says classes and patients; otherwise
    a patient is who the DICOM header or `data.patient_pattern` names.

    Raises
    ------
    ConfigError, DataError
        If there are no images, or they are not as the layout expects.
    """
    if cfg.classes or cfg.manifest:
        return _labelled(in_split(read_manifest(cfg, seed=seed), cfg.split), cfg, pseudonyms)
    root = Path(cfg.root).expanduser().resolve()
    if not cfg.root or not root.is_dir():
        raise DataError(
            f"data.root={cfg.root}; expected a folder with images, e.g. data.root=scans"
        )
    listing = list_folder(root)
    if not listing.images:
        raise DataError(f"data.root={cfg.root}; expected images (JPEG, PNG, TIFF, DICOM) below it")
    places = tuple(_unlabelled(path, root, cfg, pseudonyms) for path in listing.images)
    return Plan(root, places, _closed(listing, root), dict(sorted(listing.unread.items())))


def _labelled(manifest: Manifest, cfg: DataConfig, pseudonyms: Pseudonyms) -> Plan:
    if manifest.several or manifest.mask_values:
        raise ConfigError(
            f"data.task={cfg.task}; expected classification: copies lie in folders of one class an "
            "image; leave out data.classes and data.manifest, and every image is copied as it is "
            "named, without labels"
        )
    listing = list_folder(manifest.root)
    listed = {sample.path for sample in manifest.samples}
    left_out = _closed(listing, manifest.root)
    for path in listing.images:
        name = path.relative_to(manifest.root).as_posix()
        if name not in listed:
            left_out[name] = "it is in no class of the data"
    places = tuple(_place(s, manifest.classes[s.label], pseudonyms) for s in manifest.samples)
    return Plan(manifest.root, places, left_out, dict(sorted(listing.unread.items())))


def _place(sample: Sample, label: str, pseudonyms: Pseudonyms) -> Place:
    patient = pseudonyms.patient(sample.patient)
    folders = [sample.split, _plain(label, pseudonyms)]
    folders += [patient] if patient and not is_own(sample.patient) else []
    image = pseudonyms.of("image", sample.path)
    target = "/".join(filter(None, (*folders, image)))
    known = "" if is_own(sample.patient) else patient
    return Place(sample.path, target, known, label, sample.site, sample.split)


def _unlabelled(path: Path, root: Path, cfg: DataConfig, pseudonyms: Pseudonyms) -> Place:
    source = path.relative_to(root)
    name = source.as_posix()
    patient = read_patient(path) if is_dicom(path) else ""
    if not patient and cfg.patient_pattern:
        found = re.search(cfg.patient_pattern, name)
        patient = (found.groupdict().get("patient") or "") if found else ""
    folders = [pseudonyms.of("folder", part) for part in source.parts[:-1]]
    known = pseudonyms.patient(patient) if patient else ""
    image = pseudonyms.of("image", name)
    return Place(name, "/".join((*folders, *filter(None, [known]), image)), known)


def _closed(listing: Listing, root: Path) -> dict[str, str]:
    """Name the folders that cannot be looked into."""

    def name(path: Path) -> str:
        return path.relative_to(root).as_posix()

    left_out = {name(path): "the folder cannot be opened" for path in listing.closed}
    return left_out | {name(path): "it is no regular file" for path in listing.special}


def _plain(label: str, pseudonyms: Pseudonyms) -> str:
    """Return a class as the name of a folder."""
    return label if _PLAIN.fullmatch(label) else pseudonyms.of("class", label)


def manifest_of(places: Iterator[tuple[Place, str]], root: Path, classes: list[str]) -> Manifest:
    """Return the manifest of the copies: each place with the path that its copy got."""
    from primia_flwr.data.manifest import Sample

    samples = [
        Sample(path, classes.index(place.label), place.patient, place.site, place.split)
        for place, path in places
    ]
    return replace(Manifest(root, tuple(classes), ()), samples=tuple(samples))
