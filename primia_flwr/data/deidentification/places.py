"""Where copies go: names of folders and files that name nobody, and keep who belongs together.

With classes a copy is `[split/]class/[patient/]image`, with masks `[split/]images/[patient/]image`
and `masks` alike, with several findings an image `[split/][patient/]image`. Without any it lies as
deep as its original and every folder has a pseudonym, since nothing tells a class from a patient.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.files.dicom import read_patient
from primia_flwr.data.files.listing import Listing, is_dicom, list_folder
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.data.names import is_own
from primia_flwr.data.pseudonyms import Pseudonyms
from primia_flwr.data.reading.any_layout import in_split, read_manifest
from primia_flwr.data.reading.labels import study_of
from primia_flwr.errors import ConfigError, DataError

Copy = tuple["Place", str, str]
"""A place with the paths of its image's copy and of its mask's, or nothing."""

_PLAIN = re.compile(r"[^\W_][\w .+-]{0,63}")


@dataclass(frozen=True)
class Place:
    """An original, by its path below the root, and its copy, by that without a suffix.

    `patient` and `study` are pseudonyms, empty where nobody knows them. `label`, `site`, `split`
    and `findings` are those of a manifest. `mask` and `mask_target`: of its mask, if it has one.
    """

    source: str
    target: str
    patient: str
    label: str = ""
    site: str = ""
    split: str = ""
    findings: tuple[int, ...] = ()
    mask: str = ""
    mask_target: str = ""
    study: str = ""


@dataclass(frozen=True)
class Plan:
    """Every image below a root with its place, and files that get none, by path with the reason.

    `data`: the root, and what labels are; it has no samples.
    """

    data: Manifest
    places: tuple[Place, ...]
    left_out: dict[str, str]
    no_images: dict[str, int]

    @property
    def root(self) -> Path:
        """The folder of the originals."""
        return self.data.root


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
    unread = dict(sorted(listing.unread.items()))
    return Plan(Manifest(root, (), ()), places, _closed(listing, root), unread)


def _labelled(manifest: Manifest, cfg: DataConfig, pseudonyms: Pseudonyms) -> Plan:
    if cfg.layout == "msd":
        raise ConfigError(
            "data.layout=msd; expected images as files: headers of volumes are not cleaned here; "
            "export the slices with their masks as PNG, and set data=paired"
        )
    listing = list_folder(manifest.root)
    listed = {name for sample in manifest.samples for name in (sample.path, sample.mask)}
    left_out = _closed(listing, manifest.root)
    for path in listing.images:
        name = path.relative_to(manifest.root).as_posix()
        if name not in listed:
            left_out[name] = "it is in no class of the data"
    places = tuple(_place(sample, manifest, pseudonyms) for sample in manifest.samples)
    unread = dict(sorted(listing.unread.items()))
    return Plan(manifest.with_samples(()), places, left_out, unread)


def _place(sample: Sample, manifest: Manifest, pseudonyms: Pseudonyms) -> Place:
    patient = pseudonyms.patient(sample.patient)
    known = "" if is_own(sample.patient) else patient
    name = [*([known] if known else []), pseudonyms.of("image", sample.path)]
    label = "" if manifest.several or sample.mask else manifest.classes[sample.label]
    kind = "images" if sample.mask else _plain(label, pseudonyms) if label else ""

    def below(folder: str) -> str:
        return "/".join(filter(None, (sample.split, folder, *name)))

    return Place(
        sample.path, below(kind), known, label, sample.site, sample.split, sample.findings,
        sample.mask, below("masks") if sample.mask else "",
        pseudonyms.of("study", study_of(sample)) if sample.study else "",
    )  # fmt: skip


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


def manifest_of(copies: Iterable[Copy], data: Manifest, root: Path) -> Manifest:
    """Return the manifest of the copies, with labels as the originals have them.

    Parameters
    ----------
    copies : iterable
        Each place with the paths of its image's and its mask's copy.
    data : Manifest
        What labels are.
    root : Path
        The folder of the copies.
    """
    known = list(copies)
    classes = tuple(sorted({place.label for place, *_ in known})) if _by_class(data) else ()
    samples = tuple(
        Sample(
            path, classes.index(place.label) if classes else 0, place.patient, place.site,
            place.split, mask, place.findings, place.study,
        )
        for place, path, mask in known
    )  # fmt: skip
    return replace(data, root=root, classes=classes or data.classes, samples=samples)


def _by_class(data: Manifest) -> bool:
    return not (data.several or data.mask_values)
