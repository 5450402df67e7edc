"""The layout of the Medical Segmentation Decathlon: imagesTr, labelsTr, dataset.json.

Volumes become axial slices once, as PNG files with their masks in the cache; a patient is a case.

Source: Antonelli et al. 2022, The Medical Segmentation Decathlon.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.files.images import Pixels
from primia_flwr.data.files.listing import cache_folder, locked
from primia_flwr.data.files.progress import decoded
from primia_flwr.data.files.volumes import load_slices
from primia_flwr.data.fingerprint.sums import Counts, counts_of, length
from primia_flwr.data.layouts.paired import read_paired
from primia_flwr.data.manifest import Manifest
from primia_flwr.data.reading.common import existing_root
from primia_flwr.errors import DataError
from primia_flwr.extras import need
from primia_flwr.storage.reading import parse_json, read_text, reading

_VERSION = 1
"""Raise with every change of the slices: another version is another folder."""

_Masks = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Case:
    """One volume: its name, and where its image and its labels lie below the root."""

    name: str
    image: str
    label: str


def _read_msd(cfg: DataConfig, *, seed: int) -> Manifest:
    """Cut the volumes of `dataset.json` into slices unless they lie in the cache, and read them.

    Raises
    ------
    DataError
        If dataset.json or a volume cannot be read, or a label is none of its classes.
    """
    classes, _, target = _prepared(cfg)
    read = replace(cfg, root=str(target), classes=list(classes), mask_values=[])
    return read_paired(read, seed=seed)


def volume_counts(cfg: DataConfig, files: Iterable[str] | None = None) -> tuple[Counts, list[str]]:
    """Return what the volumes of a folder add up to, and the names of the classes.

    Parameters
    ----------
    cfg : DataConfig
        Of the layout msd, with `volumes.fingerprint`.
    files : iterable of str, optional
        Slices, as a manifest of this layout names them: their volumes count; by default all do.

    Raises
    ------
    DataError
        If dataset.json or a volume cannot be read.
    """
    classes, cases, target = _prepared(cfg)
    everything = [case.name for case in cases]
    names = everything if files is None else {Path(file).parts[1] for file in files}
    size = length(len(classes))
    vectors = [_counted(_counts_file(target, name), size) for name in sorted(names)]
    return Counts.read(np.sum([[0] * size, *vectors], axis=0).tolist()), list(classes)


def _prepared(cfg: DataConfig) -> tuple[dict[str, int], list[_Case], Path]:
    """Return the label of each class, the cases, and the folder of their slices."""
    need("nibabel", "data.layout=msd")
    root = existing_root(cfg)
    classes, cases = _listed(root, cfg)
    return classes, cases, _sliced(root, classes, cases, cfg)


def _listed(root: Path, cfg: DataConfig) -> tuple[dict[str, int], list[_Case]]:
    """Return the label of each class, in their order, and the cases."""
    file = root / "dataset.json"
    expected = 'a file with "labels" and "training", as the Decathlon has it'
    with reading(file, error=DataError, expected=expected):
        values = parse_json(read_text(file))
        labels = {str(name): int(value) for value, name in values["labels"].items()}
        named = len(values["labels"])
        cases = [_case(root, file, entry) for entry in values["training"]]
    numbers = len(set(labels.values()))
    if not named == len(labels) == numbers:
        raise DataError(
            f"{file}: {named} labels with {len(labels)} name(s) and {numbers} number(s); expected "
            "one of each for every label: name them apart, or give both one number in the volumes"
        )
    if len(labels) < 2 or not cases or len({case.name for case in cases}) != len(cases):
        raise DataError(
            f"{file}: {len(labels)} label(s) and {len(cases)} case(s); expected at least two "
            "labels, and cases of different names"
        )
    ordered = dict(sorted(labels.items(), key=lambda pair: pair[1]))
    if cfg.classes and list(cfg.classes) != list(ordered):
        raise DataError(
            f"{file}: labels {', '.join(ordered)}; expected those of data.classes, "
            f"{', '.join(cfg.classes)}, in the order of their numbers"
        )
    return ordered, cases


def _case(root: Path, file: Path, entry: Any) -> _Case:
    image, label = str(entry["image"]), str(entry["label"])
    for name in (image, label):
        if not (root / name).resolve().is_relative_to(root):
            raise DataError(f"{file}: {name!r:.200} leads out of {root}; expected a path below it")
    case = Path(image).name.removesuffix(".gz").removesuffix(".nii")
    if not case or case.startswith("."):
        raise DataError(f"{file}: the image {image!r:.200} has no name; expected e.g. a_1.nii.gz")
    return _Case(case, image, label)


def _sliced(root: Path, classes: dict[str, int], cases: list[_Case], cfg: DataConfig) -> Path:
    """Write the slices below the cache and return their folder."""
    files = [root / name for case in cases for name in (case.image, case.label)]
    known = {
        "version": _VERSION,
        "classes": classes,
        "cases": [asdict(case) for case in cases],
        "files": [_stamp(file) for file in files],
        "window": list(cfg.volumes.window),
        "slices": cfg.volumes.slices,
        **({"levels": list(cfg.volumes.levels)} if cfg.volumes.fingerprint else {}),
        **({"stack": cfg.frames} if cfg.frames > 1 else {}),
    }
    key = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]
    target = Path(cfg.cache_dir).expanduser().resolve() / f"slices-{key}"
    with locked(target):
        if not target.is_dir():
            with cache_folder(target) as draft:
                _write(draft, root, classes, cases, cfg)
    return target


def _stamp(file: Path) -> list[int]:
    try:
        status = file.stat()
    except OSError as error:
        raise DataError(
            f"{file}: cannot be opened ({error.strerror}); expected the volume that dataset.json "
            "names: copy it there"
        ) from None
    return [status.st_size, status.st_mtime_ns]


def _write(
    draft: Path, root: Path, classes: dict[str, int], cases: list[_Case], cfg: DataConfig
) -> None:
    written = 0
    for number, case in enumerate(cases, start=1):
        folders = [draft / kind / case.name for kind in ("images", "masks")]
        for folder in folders:
            folder.mkdir(parents=True)
        found, masks = _read(root, case, classes, cfg)
        pictures = _stacks(found.pixels, cfg.frames), _stacks(masks, cfg.frames)
        for place, pixels, mask in _wanted(*pictures, cfg):
            for folder, array in zip(folders, (pixels, mask), strict=True):
                Image.fromarray(array).save(folder / f"{place:04d}.png", compress_level=1)
            written += 1
        if cfg.volumes.fingerprint:
            _write_counts(_counts_file(draft, case.name), found, masks, classes, cfg)
        decoded(number, len(cases))
    if not written:
        raise DataError(
            f"{root}: no slice shows more than the background; expected some, or "
            "data.volumes.slices=all"
        )


def _read(root: Path, case: _Case, classes: dict[str, int], cfg: DataConfig) -> tuple[Any, _Masks]:
    """Return a volume, and the class of each voxel (Z, H, W)."""
    window = (cfg.volumes.window[0], cfg.volumes.window[1]) if cfg.volumes.window else None
    found = load_slices(root / case.image, root / case.label, window)
    values = np.array(list(classes.values()))
    strange = np.setdiff1d(found.labels, values)
    if strange.size:
        raise DataError(
            f"{root / case.label}: the label {strange[0]}; expected one of {values.tolist()}, "
            "which dataset.json names"
        )
    return found, np.searchsorted(values, found.labels).astype(np.uint8)


def _stacks(volume: Pixels, size: int) -> Iterable[Pixels]:
    """Return the pictures of a volume (Z, H, W): its slices, or stacks of slices side by side.

    The slices of a stack are square, and it has `size` of them: what is added at the sides, and
    after the last slice, is 0.
    """
    if size == 1:
        return volume
    number, height, width = volume.shape
    side = max(height, width)
    added = (-number % size, side - height, side - width)
    before = (0, added[1] // 2, added[2] // 2)
    whole = np.pad(volume, [(a, b - a) for a, b in zip(before, added, strict=True)])
    return [np.concatenate(whole[at : at + size], axis=1) for at in range(0, len(whole), size)]


def _wanted(
    volume: Iterable[Pixels], masks: Iterable[_Masks], cfg: DataConfig
) -> Iterator[tuple[int, Pixels, _Masks]]:
    """Yield number, pixels and mask (H, W) uint8 of the pictures that are wanted, from 1.

    A slice of one tone with nothing labelled is never: all patients would share that picture.
    """
    for number, (pixels, mask) in enumerate(zip(volume, masks, strict=True), start=1):
        if mask.any() or (cfg.volumes.slices == "all" and np.ptp(pixels)):
            yield number, np.ascontiguousarray(pixels), np.ascontiguousarray(mask)


def _write_counts(
    file: Path, found: Any, masks: _Masks, classes: dict[str, int], cfg: DataConfig
) -> None:
    counts = counts_of(
        found.stored,
        masks,
        found.spacing,
        outputs=len(classes),
        levels=(cfg.volumes.levels[0], cfg.volumes.levels[1]),
    )
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(counts.vector()), encoding="utf-8")


def _counted(file: Path, size: int) -> list[int]:
    """Read the counts of one volume that lie in the cache, so many numbers."""
    expected = f"counts of one volume: delete {file.parents[1]}, and they are counted again"
    with reading(file, error=DataError, expected=expected):
        counts = Counts.read(parse_json(read_text(file)))
        vector = counts.vector()
        if len(vector) != size or counts.cases != 1:
            raise ValueError(f"{len(vector)} numbers of {counts.cases} volume(s), not {size} of 1")
    return vector


def _counts_file(folder: Path, case: str) -> Path:
    return folder / "counts" / f"{case}.json"


LAYOUT = _read_msd
