"""Labelled images in memory: one site's, all sites' pooled, or the test set's.

In a simulation every process derives the same split from the same files: the test set is taken
off by patient, the rest is dealt to the sites, and every site holds out its validation set.
"""

import logging
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from primia_flwr.config.experiment.data import STUDY, DataConfig
from primia_flwr.config.rows import TASKS
from primia_flwr.data.cases import Cases, cases_of
from primia_flwr.data.files.store import Store, open_store
from primia_flwr.data.manifest import Manifest, shared_patients
from primia_flwr.data.names import key_of
from primia_flwr.data.pictures import pictures_of
from primia_flwr.data.reading.any_layout import in_split, read_manifest
from primia_flwr.data.reading.labels import check_findings, study_of
from primia_flwr.data.split.partition import partition_over_sites, sites_of, split_by_patient
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.tasks.task import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledImages:
    """Decoded images with their labels.

    Attributes
    ----------
    images
        (N, C, S, S) uint8; perhaps mapped from a file.
    labels
        (N,) int64, indices into `classes`; of a task with masks (N, S, S) uint8, one a pixel, of
        frames side by side (N, S, C * S); of one with several labels an image (N, classes) int8: 1,
        0, or -1 where that is unknown.
    files, patients
        Path (below the data root) and patient of every image.
    sides
        Shorter side of every image in pixels, as it is stored; empty where that is not known.
    digests
        SHA-256 of every image's file, hexadecimal: a privacy ledger knows an image again by it,
        whatever its name, its size here and the layout are. Empty where that is not known.
    task
        Whose labels they are.
    studies
        Examination of every image, where all images of one are judged together; else empty.
    synthetic
        Whether the images were drawn by formula; to be said wherever a result is shown.
    """

    images: Tensor
    labels: Tensor
    files: tuple[str, ...]
    patients: tuple[str, ...]
    classes: tuple[str, ...]
    synthetic: bool = False
    sides: tuple[int, ...] = ()
    digests: tuple[str, ...] = ()
    task: Task = field(default_factory=lambda: TASKS["classification"])
    studies: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def select(self, indices: Sequence[int] | Tensor) -> "LabelledImages":
        """Copy the images at `indices`, in that order."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        rows = index.tolist()
        return LabelledImages(
            self.images[index],
            self.labels[index],
            tuple(self.files[row] for row in rows),
            tuple(self.patients[row] for row in rows),
            self.classes,
            self.synthetic,
            tuple(self.sides[row] for row in rows) if self.sides else (),
            tuple(self.digests[row] for row in rows) if self.digests else (),
            self.task,
            tuple(self.studies[row] for row in rows) if self.studies else (),
        )

    def joined(self, other: "LabelledImages") -> "LabelledImages":
        """Copy these images and, behind them, those of another part of the same data."""
        return LabelledImages(
            torch.cat([self.images, other.images]),
            torch.cat([self.labels, other.labels]),
            self.files + other.files,
            self.patients + other.patients,
            self.classes,
            self.synthetic or other.synthetic,
            self.sides + other.sides,
            self.digests + other.digests,
            self.task,
            self.studies + other.studies,
        )

    def cases(self) -> Cases:
        """Return what is judged: each image, or each study."""
        return cases_of(self.studies or self.files)

    def label_counts(self) -> list[int]:
        """Images of every class, or what else the task counts of labels."""
        rows = self.task.label_rows(self.labels, len(self.classes))
        return [int(n) for n in rows.sum(dim=0)]


@dataclass(frozen=True)
class SiteData:
    """What one site trains on and what it validates with; they share no patient."""

    name: str
    train: LabelledImages
    val: LabelledImages


def load_images(manifest: Manifest, cfg: DataConfig) -> LabelledImages:
    """Decode (once) all images of a manifest and map them from the cache.

    Raises
    ------
    DataError
        If files cannot be decoded and `data.skip_unreadable` is off; the message names them.
    """
    store = open_store(manifest, cfg)
    readable = _readable(manifest, store)
    if store.masks and store.unreadable:
        return _picked(readable, store, cfg)
    masks = store.masks.mapped() if store.masks else None
    return _labelled(readable, store, store.mapped(), masks, cfg)


def load_site(
    cfg: DataConfig, *, seed: int, site_index: int, num_sites: int, site_names: Sequence[str] = ()
) -> SiteData:
    """Load one site of a simulation.

    Raises
    ------
    ConfigError
        If `site_index` is not below `num_sites`.
    DataError
        If the data cannot be read or split this way.
    """
    if not 0 <= site_index < num_sites:
        raise ConfigError(f"site_index={site_index}; expected 0 to {num_sites - 1}")
    dealt = deal_sites(cfg, seed=seed, num_sites=num_sites, site_names=site_names)
    return dealt.open(site_index)


@dataclass(frozen=True)
class DealtSites:
    """A simulation's images as they are dealt to its sites, of which each is opened by itself."""

    cfg: DataConfig
    seed: int
    store: Store
    sites: dict[str, Manifest]

    def open(self, index: int) -> SiteData:
        """Load one site, at the cost of its own images.

        Raises
        ------
        DataError
            If it cannot be split into training and validation images.
        """
        name = list(self.sites)[index]
        return _site_data(name, self.sites[name], self.store, self.cfg, self.seed)


def deal_sites(
    cfg: DataConfig, *, seed: int, num_sites: int, site_names: Sequence[str] = ()
) -> DealtSites:
    """Deal a simulation's images to its sites: looks at every file, and reads no pixel.

    Raises
    ------
    DataError
        If the data cannot be read or split this way.
    """
    store, develop, _ = _held_out(cfg, seed)
    sites = named_sites(develop, cfg, seed=seed, num_sites=num_sites, site_names=site_names)
    return DealtSites(cfg, seed, store, sites)


def load_own_site(
    cfg: DataConfig, *, seed: int, name: str, without: Set[str] = frozenset()
) -> SiteData:
    """Load a real site: all images under `data.root` or in `data.manifest` are its own.

    With `data.split=auto` a `test` folder is left alone. Of a manifest that names several sites,
    only the rows of `name` are used. Patients of `without` (by `key_of`) are left out, and who
    shares a picture with them. Images of one class will do where `data.classes` names all: a
    federation may have a screening centre that sees the healthy only.

    Raises
    ------
    DataError
        If the data cannot be read, has one class only and `data.classes` names none, or the
        manifest does not name the site.
    """
    manifest = in_split(read_manifest(cfg, seed=seed), cfg.split)
    if cfg.split == "auto":
        manifest = manifest.with_samples([s for s in manifest.samples if s.split != "test"])
    if len({sample.site for sample in manifest.samples}) > 1:
        sites = sites_of(manifest)
        if name not in sites:
            raise DataError(f"site {name} is not in the manifest; expected one of {list(sites)}")
        manifest = sites[name]
    if not cfg.classes:
        _check_classes(manifest)
    for note in manifest.notes:
        logger.warning("%s", note)
    store = open_store(manifest, cfg)
    known = _without(replace(manifest, digests=pictures_of(store)), without)
    return _site_data(name, known, store, cfg, seed)


def _without(manifest: Manifest, keys: Set[str]) -> Manifest:
    """Leave out patients, and who is one of them by a shared picture."""
    if not keys:
        return manifest
    people = manifest.people()
    pairs = list(zip(manifest.samples, people, strict=True))
    out = {person for sample, person in pairs if key_of(sample.patient) in keys}
    return manifest.with_samples([sample for sample, person in pairs if person not in out])


def load_test(cfg: DataConfig, *, seed: int) -> LabelledImages:
    """Load the test set: the test folder, else the held-out share of the patients.

    Raises
    ------
    DataError
        If the data cannot be read or there is no test set.
    """
    store, develop, test = _held_out(cfg, seed)
    if test is None:
        raise DataError(
            f"data.test_fraction={cfg.test_fraction} and {develop.root} has no test folder; "
            "expected a test set: set data.test_fraction, e.g. 0.2"
        )
    return _picked(test, store, cfg)


def load_pooled(
    cfg: DataConfig, *, seed: int, num_sites: int, site_names: Sequence[str] = ()
) -> SiteData:
    """Load the union of all sites' training and of all sites' validation images."""
    store, develop, _ = _held_out(cfg, seed)
    sites = named_sites(develop, cfg, seed=seed, num_sites=num_sites, site_names=site_names)
    parts = [_train_and_val(site, cfg, seed, name) for name, site in sites.items()]
    train = develop.with_samples([s for part in parts for s in part["train"].samples])
    val = develop.with_samples([s for part in parts for s in part["val"].samples])
    return SiteData("pooled", _picked(train, store, cfg), _picked(val, store, cfg))


def data_notes(cfg: DataConfig, *, seed: int) -> tuple[str, ...]:
    """Sentences on a simulation's data: what is left out or taken for one, or is tested on, too."""
    _, develop, test = _held_out(cfg, seed)
    picture_of = develop.digests
    known = {picture_of.get(sample.path) for sample in develop.samples} - {None}
    twice = sum(picture_of.get(sample.path) in known for sample in test.samples) if test else 0
    tied = len(develop.patients()) - len(set(develop.people()))
    too_good = (
        f"{twice} of {len(test or ())} test images are in train or val, too: the test is then too "
        "good; primia data check names them"
    )
    together = (
        f"{tied} name(s) of patients share a picture with another one: they stay in one part; "
        "primia data check names them"
    )
    return (*develop.notes, *[too_good] * bool(twice), *[together] * bool(tied))


def hold_out_test(
    cfg: DataConfig, manifest: Manifest, seed: int
) -> tuple[Manifest, Manifest | None]:
    """Split a manifest into what the sites may have and the test set (None if there is none).

    Raises
    ------
    DataError
        If a patient is in the test folder and in another one.
    """
    manifest = in_split(manifest, cfg.split)
    test = [s for s in manifest.samples if s.split == "test"]
    if cfg.split == "auto" and test:
        develop = manifest.with_samples([s for s in manifest.samples if s.split != "test"])
        _check_disjoint(develop, manifest.with_samples(test))
        return develop, manifest.with_samples(test)
    if cfg.test_fraction == 0:
        return manifest, None
    fractions = {"develop": 1 - cfg.test_fraction, "test": cfg.test_fraction}
    parts = split_by_patient(manifest, fractions, seed=seed)
    return parts["develop"], parts["test"]


def named_sites(
    develop: Manifest, cfg: DataConfig, *, seed: int, num_sites: int, site_names: Sequence[str] = ()
) -> dict[str, Manifest]:
    """Deal the patients to the sites; without names they are called site-1, site-2 and so on.

    If the manifest decides (`data.partition.kind=manifest`) and its sites have these names,
    each gets its own rows. Else the parts go to the names in sorted order, so that another order
    of the same names deals the same; `data.partition.shares` go to the names as they stand.
    """
    names = list(site_names) or [f"site-{index + 1}" for index in range(num_sites)]
    if len(set(names)) != num_sites:
        raise ConfigError(f"site names {names}; expected {num_sites} different ones")
    if cfg.partition.kind == "manifest":
        sites = sites_of(develop)
        if set(sites) == set(names):
            return {name: sites[name] for name in names}
    parts = partition_over_sites(develop, cfg.partition, num_sites=num_sites, seed=seed)
    wanted = names if cfg.partition.shares else sorted(names, key=by_number)
    dealt = dict(zip(wanted, parts, strict=True))
    return {name: dealt[name] for name in names}


def by_number(name: str) -> list[tuple[int, str]]:
    """Sort site-2 before site-10."""
    pieces = re.split(r"(\d+)", name)
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in pieces]


def _held_out(cfg: DataConfig, seed: int) -> tuple[Store, Manifest, Manifest | None]:
    whole = read_manifest(cfg, seed=seed)
    _check_classes(in_split(whole, cfg.split))
    store = open_store(whole, cfg)
    develop, test = hold_out_test(cfg, replace(whole, digests=pictures_of(store)), seed)
    _check_classes(develop)
    return store, develop, test


def _site_data(name: str, manifest: Manifest, store: Store, cfg: DataConfig, seed: int) -> SiteData:
    parts = _train_and_val(manifest, cfg, seed, name)
    return SiteData(name, _picked(parts["train"], store, cfg), _picked(parts["val"], store, cfg))


def _train_and_val(
    manifest: Manifest, cfg: DataConfig, seed: int, name: str
) -> dict[str, Manifest]:
    fractions = {"train": 1 - cfg.val_fraction, "val": cfg.val_fraction}
    try:
        return split_by_patient(manifest, fractions, seed=seed)
    except DataError as error:
        raise DataError(f"site {name}: {error}") from error


def _readable(manifest: Manifest, store: Store) -> Manifest:
    kept = [sample for sample in manifest.samples if sample.path not in store.unreadable]
    if len(kept) < len(manifest):
        logger.warning("left out %d unreadable file(s)", len(manifest) - len(kept))
    if not kept:
        raise DataError(f"{manifest.root}: no readable image remains; see primia data check")
    return manifest.with_samples(kept)


def _picked(manifest: Manifest, store: Store, cfg: DataConfig) -> LabelledImages:
    kept = _readable(manifest, store)
    paths = [sample.path for sample in kept.samples]
    masks = store.masks.rows(paths) if store.masks else None
    return _labelled(kept, store, store.rows(paths), masks, cfg)


def _labelled(
    manifest: Manifest, store: Store, images: Tensor, masks: Tensor | None, cfg: DataConfig
) -> LabelledImages:
    if masks is not None:
        labels = masks[:, 0]
    elif manifest.several:
        labels = torch.tensor([s.findings for s in manifest.samples], dtype=torch.int8)
    else:
        labels = torch.tensor([s.label for s in manifest.samples], dtype=torch.int64)
    return LabelledImages(
        images,
        labels,
        tuple(sample.path for sample in manifest.samples),
        tuple(sample.patient for sample in manifest.samples),
        manifest.classes,
        manifest.synthetic,
        tuple(store.sides[sample.path] for sample in manifest.samples),
        tuple(store.digests[sample.path] for sample in manifest.samples),
        TASKS[cfg.task],
        tuple(map(study_of, manifest.samples)) if cfg.case == STUDY else (),
    )


def _check_classes(manifest: Manifest) -> None:
    if manifest.mask_values:
        return  # the masks know which classes there are
    if manifest.several:
        check_findings(manifest)
        return
    present = [name for name, n in zip(manifest.classes, manifest.label_counts(), strict=True) if n]
    if len(present) < 2:
        raise DataError(
            f"{manifest.root}: holds only the class(es) {present}; expected images of at least two "
            f"of {list(manifest.classes)}: correct data.root or add images"
        )


def _check_disjoint(develop: Manifest, test: Manifest) -> None:
    shared = shared_patients({"train or val": develop, "test": test})
    if shared:
        raise DataError(
            f"{len(shared)} patient(s), e.g. {next(iter(shared))}, are in the test folder and in "
            "train or val; expected each on one side: move them, or set data.split=all to split "
            "anew by patient"
        )
