"""Synthetic radiographs, written once as PNG files under names of the pneumonia layout.

For a task with masks each has one of the same name below `masks`; for one of several findings they
are those of `findings`. With `data.frames` each file is a sequence in which the finding grows.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from primia_flwr.config.experiment.data import DataConfig, SyntheticConfig
from primia_flwr.config.rows import TASKS
from primia_flwr.data.drawing import radiograph
from primia_flwr.data.drawing.findings import FINDINGS, TABLE, write_drawn
from primia_flwr.data.files.listing import cache_folder, locked
from primia_flwr.data.layouts.manifest import read_table
from primia_flwr.data.layouts.pneumonia import FOLDERS, read_pneumonia
from primia_flwr.data.manifest import Manifest
from primia_flwr.data.reading.common import note_synthetic
from primia_flwr.data.seeding import generator
from primia_flwr.errors import ConfigError, DataError

MASKS = "masks"
_REGIONS = ("background", "lung", "consolidation")
_VERSION = 1
"""Raise with every change of the drawing: another version is another folder."""

_IMAGES_PER_PATIENT = (1, 1, 1, 2, 3)
"""Drawn from uniformly: 1.6 images a patient in the mean."""

_FINDINGS = (0, 1, 2, 1, 2, 0, 1, 0, 2, 1)
"""Findings of ten patients in a row: 30 % normal, 40 % bacterial, 30 % viral."""


@dataclass(frozen=True)
class _Picture:
    name: str
    finding: int
    patient: int
    number: int


def _read_synthetic(cfg: DataConfig, *, seed: int) -> Manifest:
    """Draw the radiographs of `data.synthetic` unless they lie in the cache, and read them."""
    if TASKS[cfg.task].several:
        return _read_findings(cfg)
    masked = TASKS[cfg.task].masked
    cache = Path(cfg.cache_dir).expanduser().resolve()
    root = write_synthetic(cfg.synthetic, cache, masked=masked, frames=cfg.frames)
    known = [] if masked else cfg.classes
    found = read_pneumonia(replace(cfg, root=str(root), classes=known), seed=seed)
    manifest = replace(found, synthetic=True)
    return _with_masks(manifest, cfg) if masked else manifest


def _with_masks(manifest: Manifest, cfg: DataConfig) -> Manifest:
    """Give each image its mask; images of a cloud count for it, all others for the lung."""
    classes = tuple(cfg.classes) or _REGIONS
    if classes != _REGIONS:
        raise DataError(
            f"data.classes={list(cfg.classes)} with data.layout=synthetic and a task of masks; "
            f"expected [] or {list(_REGIONS)}, which are drawn"
        )
    cloudy = manifest.classes.index("bacterial")
    samples = [
        replace(
            sample,
            mask=f"{MASKS}/{sample.path}",
            label=radiograph.CONSOLIDATION if sample.label == cloudy else radiograph.LUNG,
        )
        for sample in manifest.samples
    ]
    masked = replace(manifest, classes=classes, mask_values=tuple(range(len(classes))))
    return masked.with_samples(samples)


def write_synthetic(
    cfg: SyntheticConfig, cache: Path, *, masked: bool = False, frames: int = 1
) -> Path:
    """Write the PNG files below `cache`, with masks if wanted, and return their folder.

    `frames`: of each file, side by side.

    Raises
    ------
    DataError
        If the cache cannot be written.
    """
    if frames > 1:
        kind = f"synthetic-{frames}-frames"
        return _kept(cache, kind, cfg, lambda draft: _write_sequences(cfg, draft, frames))
    kind = "synthetic-masked" if masked else "synthetic"
    return _kept(cache, kind, cfg, lambda draft: _write_all(cfg, draft, masked=masked))


def _read_findings(cfg: DataConfig) -> Manifest:
    """Read the radiographs with several findings, or those of them that `data.classes` names.

    Raises
    ------
    ConfigError
        If `data.classes` names another finding.
    """
    if cfg.frames > 1:
        raise ConfigError(
            f"data.frames={cfg.frames} with data.layout=synthetic and data.task={cfg.task}; "
            "expected data.frames=1, or task=classification: sequences are drawn of one finding"
        )
    names = list(cfg.classes) or list(FINDINGS)
    if other := [name for name in names if name not in FINDINGS]:
        raise ConfigError(
            f"data.classes names {other[0]!r:.80}; expected findings that are drawn: "
            f"{', '.join(FINDINGS)}; set data.classes=[]"
        )
    cache, drawn = Path(cfg.cache_dir).expanduser().resolve(), cfg.synthetic
    root = _kept(cache, "synthetic-studies", drawn, lambda draft: write_drawn(drawn, draft))
    table = replace(cfg, layout="manifest", manifest=str(root / TABLE), root=str(root),
                    classes=names, columns={}, patient_column="patient")  # fmt: skip
    return replace(read_table(table, seed=0), synthetic=True)


def _kept(cache: Path, kind: str, cfg: SyntheticConfig, write: Callable[[Path], None]) -> Path:
    """Return the folder of what is drawn, which is written once."""
    text = json.dumps({"version": _VERSION, **asdict(cfg)}, sort_keys=True)
    target = cache / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    with locked(target):
        if not target.is_dir():
            with cache_folder(target) as draft:
                write(draft)
    return target


def _write_all(cfg: SyntheticConfig, folder: Path, *, masked: bool) -> None:
    for name in FOLDERS:
        (folder / name).mkdir()
        if masked:
            (folder / MASKS / name).mkdir(parents=True)
    note_synthetic(folder)
    for picture in _pictures(cfg):
        pixels, mask = radiograph.draw_with_mask(
            picture.finding,
            generator("synthetic", cfg.seed, "patient", picture.patient),
            generator("synthetic", cfg.seed, "image", picture.patient, picture.number),
            severity=cfg.severity,
        )
        Image.fromarray(pixels).save(folder / picture.name, compress_level=1)
        if masked:
            Image.fromarray(mask).save(folder / MASKS / picture.name)


def _write_sequences(cfg: SyntheticConfig, folder: Path, frames: int) -> None:
    """Write each patient's images as sequences in which the finding grows."""
    for name in FOLDERS:
        (folder / name).mkdir()
    note_synthetic(folder)
    for picture in _pictures(cfg):
        strip = np.concatenate(list(_frames(cfg, picture, frames)), axis=1)
        Image.fromarray(strip).save(folder / picture.name, compress_level=1)


def _frames(
    cfg: SyntheticConfig, picture: _Picture, frames: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """Draw one patient and finding again and again, each time acquired anew.

    The finding's contrast rises evenly, from about half of its severity to all of it.
    """
    for frame in range(frames):
        yield radiograph.draw(
            picture.finding,
            generator("synthetic", cfg.seed, "patient", picture.patient),
            generator("synthetic", cfg.seed, "image", picture.patient, picture.number, frame),
            severity=cfg.severity * (frames + frame) / (2 * frames - 1),
        )


def _pictures(cfg: SyntheticConfig) -> Iterator[_Picture]:
    for patient in range(cfg.patients):
        finding = _FINDINGS[patient % len(_FINDINGS)]
        rng = generator("synthetic", cfg.seed, "count", patient)
        count = int(rng.choice(np.array(_IMAGES_PER_PATIENT)))
        for number in range(1, count + 1):
            yield _Picture(_name(finding, patient, number), finding, patient, number)


def _name(finding: int, patient: int, number: int) -> str:
    if finding == radiograph.NORMAL:
        return f"NORMAL/IM-{patient:04d}-{number:04d}.png"
    kind = "bacteria" if finding == radiograph.BACTERIAL else "virus"
    return f"PNEUMONIA/person{patient}_{kind}_{number}.png"


LAYOUT = _read_synthetic
