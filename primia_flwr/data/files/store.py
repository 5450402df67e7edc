"""Decoded images on disk: every file is decoded once, in parallel, for all sites of a machine.

A store is a folder `images-<key>` with `pixels.u8` (rows of (C, S, S) bytes) and `index.json`; the
masks of images, where they have some, are another one, `masks-<key>`. The key covers paths, sizes
and times of the files and how they are decoded, so a changed file makes another store. Stores
appear complete or not at all.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.files.decoding.workers import end_idle
from primia_flwr.data.files.images import Pixels, decode, resize, shorter_side
from primia_flwr.data.files.listing import cache_folder, file_digest, locked
from primia_flwr.data.files.masks import decode_partner, resize_mask
from primia_flwr.data.files.progress import decoded
from primia_flwr.data.files.same_picture import same_pictures
from primia_flwr.data.files.sequences import decode_sequence, one_picture, resize_each
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.errors import DataError
from primia_flwr.storage.reading import parse_json, read_text, reading

_VERSION = 5
"""Raise with every change of decoding or resizing."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_SHA256 = re.compile("[0-9a-f]{64}")
_PICTURE = re.compile("(pixels )?[0-9a-f]{64}")
_AT_ONCE = 128
_MAX_INDEX_BYTES = 1 << 30
_LARGEST_SIDE = 1 << 20


@dataclass(frozen=True)
class Store:
    """Rows of decoded pixels, and which path each row shows.

    `sides` holds the shorter side of each stored image in pixels, by path, and `digests` the
    SHA-256 of its file, hexadecimal. `unreadable` maps the paths that could not be decoded to the
    reason. `pictures` is what `same_pictures` found when the store was written, so that who reads a
    part of it need not look at all; empty in a store of an earlier version. `masks` are the rows of
    the masks, (1, S, S), under the paths of their images; those of frames stand side by side.
    """

    folder: Path
    shape: tuple[int, int, int]
    row_of: dict[str, int]
    sides: dict[str, int]
    digests: dict[str, str]
    unreadable: dict[str, str]
    pictures: dict[str, str]
    masks: "Store | None" = None

    def rows(self, paths: Sequence[str]) -> Tensor:
        """Read the images of `paths` into memory: (N, C, S, S) uint8."""
        size = int(np.prod(self.shape))
        pixels = np.empty((len(paths), *self.shape), dtype=np.uint8)
        with self._pixels_file.open("rb", buffering=0) as file:
            for index, path in enumerate(paths):
                file.seek(self.row_of[path] * size)
                file.readinto(pixels[index].data.cast("B"))
        return torch.from_numpy(pixels)

    def mapped(self) -> Tensor:
        """Return all rows as one (N, C, S, S) uint8 tensor mapped from the file, loaded as used."""
        shape = (len(self.row_of), *self.shape)
        pixels = np.memmap(self._pixels_file, dtype=np.uint8, mode="c", shape=shape)
        return torch.from_numpy(np.asarray(pixels))

    @property
    def _pixels_file(self) -> Path:
        return self.folder / "pixels.u8"

    def is_whole(self) -> bool:
        """Whether the file has the length that the index promises."""
        expected = len(self.row_of) * int(np.prod(self.shape))
        return self._pixels_file.is_file() and self._pixels_file.stat().st_size == expected


_Row = tuple[Pixels, int, str]
"""The pixels of one row, the shorter side of what is stored, and the digest of the file."""


@dataclass(frozen=True)
class _Rows:
    """Rows of one kind: the name of their stores, their shape, and what reads one."""

    name: str
    shape: tuple[int, int, int]
    load: Callable[[Sample], _Row]


def open_store(manifest: Manifest, cfg: DataConfig) -> Store:
    """Open the store of a manifest's images and masks, decoding them if it does not exist yet.

    Raises
    ------
    DataError
        If files cannot be decoded (unless `data.skip_unreadable`), none can, or the cache
        cannot be written.
    """
    size = cfg.image_size
    images = _Rows("images", (cfg.channels, size, size), partial(_image, manifest, cfg))
    store = _open(images, manifest, cfg)
    if not manifest.mask_values:
        return store
    shape = (1, size, cfg.frames * size)
    masks = _open(_Rows("masks", shape, partial(_mask, manifest, cfg)), manifest, cfg)
    return replace(store, masks=masks, unreadable={**masks.unreadable, **store.unreadable})


def _open(rows: _Rows, manifest: Manifest, cfg: DataConfig) -> Store:
    cache = Path(cfg.cache_dir).expanduser().resolve()
    target = cache / f"{rows.name}-{_key(rows, manifest, cfg)}"
    with locked(target):
        if not _is_usable(target, manifest, rows.shape):
            _write_store(target, manifest, cfg, rows)
    return _read_index(target)


def _image(manifest: Manifest, cfg: DataConfig, sample: Sample) -> _Row:
    file = manifest.root / sample.path
    if cfg.frames > 1:
        frames = decode_sequence(file, cfg.frames)
        pixels = resize_each(frames, cfg.image_size, mode=cfg.resize)
        return pixels, min(frames[0].shape[:2]), file_digest(file)
    pixels = decode(file, at_least=cfg.image_size)
    side, digest = shorter_side(file, pixels), file_digest(file)
    pixels = resize(pixels, cfg.image_size, mode=cfg.resize, channels=cfg.channels)
    return pixels, side, digest


def _mask(manifest: Manifest, cfg: DataConfig, sample: Sample) -> _Row:
    file = manifest.root / sample.mask
    image = manifest.root / sample.path
    shown = decode(image) if cfg.frames == 1 else one_picture(image, cfg.frames)
    classes = decode_partner(manifest, sample, (shown.shape[0], shown.shape[1]))
    parts = [
        resize_mask(np.ascontiguousarray(part), cfg.image_size, mode=cfg.resize)
        for part in np.split(classes, cfg.frames, axis=1)
    ]
    return np.concatenate(parts, axis=2), min(parts[0].shape[1:]), file_digest(file)


def in_parallel(
    function: Callable[[_In], _Out], items: Sequence[_In], *, workers: int
) -> Iterator[_Out]:
    """Apply `function` on several threads; results in order, a bounded number at a time.

    `workers` = 0 takes as many threads as this process may use cores.
    """
    count = workers or _usable_cores()
    try:
        with ThreadPoolExecutor(count) as pool:
            for start in range(0, len(items), _AT_ONCE):
                yield from pool.map(function, items[start : start + _AT_ONCE])
    finally:
        end_idle()  # each thread may have had a process that decodes


def describe_unreadable(unreadable: dict[str, str]) -> str:
    """Return one sentence that names the first files with their reasons, and the remedies."""
    shown = "; ".join(list(unreadable.values())[:3])
    more = f"; and {len(unreadable) - 3} more" if len(unreadable) > 3 else ""
    return (
        f"{len(unreadable)} unreadable file(s): {shown}{more}; expected none: repair them, or "
        "leave them out with data.skip_unreadable=true (primia data check lists all)"
    )


def _write_store(target: Path, manifest: Manifest, cfg: DataConfig, rows: _Rows) -> None:
    def load(sample: Sample) -> _Row | DataError:
        try:
            return rows.load(sample)
        except DataError as error:
            return error

    paths = [sample.path for sample in manifest.samples]
    sides: dict[str, int] = {}
    digests: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    with cache_folder(target) as draft:
        with (draft / "pixels.u8").open("wb") as file:
            results = in_parallel(load, manifest.samples, workers=cfg.workers)
            for done, (path, result) in enumerate(zip(paths, results, strict=True), 1):
                decoded(done, len(paths))
                if isinstance(result, DataError):
                    unreadable[path] = str(result)
                else:
                    file.write(np.ascontiguousarray(result[0]).data)
                    sides[path], digests[path] = result[1:]
        _check_unreadable(manifest, unreadable, cfg)
        row_of = {path: row for row, path in enumerate(sides)}
        store = Store(draft, rows.shape, row_of, sides, digests, unreadable, {})
        index = {
            "shape": rows.shape,
            "sides": sides,
            "digests": digests,
            "unreadable": unreadable,
            "pictures": same_pictures(
                store.mapped().numpy().reshape(len(row_of), -1), row_of, digests
            ),
        }
        (draft / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _check_unreadable(manifest: Manifest, unreadable: dict[str, str], cfg: DataConfig) -> None:
    if unreadable and (not cfg.skip_unreadable or len(unreadable) == len(manifest)):
        raise DataError(describe_unreadable(unreadable))


def _read_index(folder: Path) -> Store:
    """Read the index of a store."""
    file = folder / "index.json"
    with reading(file, error=DataError, expected="a store of images; delete its folder"):
        text = read_text(file, at_most=_MAX_INDEX_BYTES)
        index = parse_json(text, half_characters=True)  # names of files may not be UTF-8
        channels, height, width = map(_count, index["shape"])
        sides = {path: _count(side) for path, side in index["sides"].items()}
        digests = {path: _sha256(index["digests"][path]) for path in sides}
        unreadable = {path: str(why) for path, why in index["unreadable"].items()}
        known = index.get("pictures")
        pictures = {path: _picture(known[path]) for path in sides} if known is not None else {}
    row_of = {path: row for row, path in enumerate(sides)}
    return Store(folder, (channels, height, width), row_of, sides, digests, unreadable, pictures)


def _count(value: object) -> int:
    if type(value) is not int or not 0 < value <= _LARGEST_SIDE:
        raise ValueError(f"{value!r:.40} is no number of pixels")
    return value


def _sha256(value: object) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError(f"{value!r:.40} is no SHA-256")
    return value


def _picture(value: object) -> str:
    if not isinstance(value, str) or not _PICTURE.fullmatch(value):
        raise ValueError(f"{value!r:.40} is no digest of a picture")
    return value


def _is_usable(folder: Path, manifest: Manifest, shape: tuple[int, int, int]) -> bool:
    """Whether the folder holds a whole store of these images; a damaged one is removed."""
    if not folder.exists():
        return False
    try:
        store = _read_index(folder)
        paths = [sample.path for sample in manifest.samples]
        stored = [path for path in paths if path not in store.unreadable]
        if store.shape == shape and list(store.sides) == stored and store.is_whole():
            return True
    except DataError:
        pass
    shutil.rmtree(folder, ignore_errors=True)
    return False


def _key(rows: _Rows, manifest: Manifest, cfg: DataConfig) -> str:
    how: tuple[object, ...] = (
        _VERSION, cfg.image_size, cfg.channels, cfg.resize, cfg.skip_unreadable
    )  # fmt: skip
    masked = rows.name == "masks"
    if masked:
        how = (*how, manifest.mask_values)
    if cfg.frames > 1:
        how = (*how, "frames")
    digest = hashlib.sha256(repr((how, str(manifest.root))).encode("utf-8", "surrogateescape"))
    for sample in manifest.samples:
        line = f"{sample.path}\x1f{_stamp(manifest.root / sample.path)}\x1e"
        if masked:
            line += f"{sample.mask}\x1f{_stamp(manifest.root / sample.mask)}\x1e"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:24]


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (-1, -1)
    return (status.st_size, status.st_mtime_ns)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
