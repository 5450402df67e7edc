"""Masks, volumes with labels, and the list of a Decathlon."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.files.masks import decode_mask
from primia_flwr.data.files.volumes import load_slices
from primia_flwr.data.fingerprint.sums import length
from primia_flwr.data.layouts.msd import _counted, _listed, volume_counts
from primia_flwr.tasks.masks.runs import from_runs, to_runs
from tests.data.files.segments.writing import KINDS, write_image, write_segments
from tests.data.layouts.test_msd import decathlon, marked, saved
from tests.fuzz.loaders.target import Made, put, target

MASK = np.arange(24, dtype=np.uint8).reshape(4, 6) % 3


def _mask(form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(MASK).save(stream, form)
    return stream.getvalue()


@target("mask")
def mask(folder: Path) -> Made:
    file = folder / "x"

    def load(raw: bytes) -> None:
        assert decode_mask(put(file, raw), (0, 1, 2), image=image).max() <= 2

    image = write_image(folder / "image.dcm", MASK.shape)
    seeds = [write_segments(folder / kind, [image], MASK, kind=kind) for kind in KINDS]
    segmentations = [path.read_bytes() for path in seeds]
    return Made(load, [_mask("PNG"), _mask("TIFF"), *segmentations])


@target("mask as runs")
def runs(folder: Path) -> Made:
    def load(raw: bytes) -> None:
        with suppress(ValueError):  # which `read_predictions` turns into a sentence
            assert from_runs(raw.decode("latin-1")).dtype == np.uint8

    return Made(load, [to_runs(MASK).encode()])


@target("volume")
def volume(folder: Path) -> Made:
    """Uncompressed, so that changes reach the header."""
    image = saved(folder / "image.nii", marked())
    label = saved(folder / "label.nii", marked(1))
    return Made(lambda raw: load_slices(image, put(label, raw), None), [label.read_bytes()])


@target("list of a decathlon")
def decathlon_list(folder: Path) -> Made:
    cfg: DataConfig = decathlon(folder, cases=2)
    root, file = folder / "in", folder / "in/dataset.json"
    seed = file.read_bytes()
    assert json.loads(seed)
    return Made(lambda raw: (put(file, raw), _listed(root, cfg)), [seed])


@target("counts of a volume")
def counts(folder: Path) -> Made:
    cfg = decathlon(folder, cases=1)
    cfg = replace(cfg, volumes=replace(cfg.volumes, fingerprint=True))
    volume_counts(cfg)
    (file,) = Path(cfg.cache_dir).glob("*/counts/*.json")
    copy = folder / "copy/counts/x.json"
    copy.parent.mkdir(parents=True)
    return Made(lambda raw: _counted(put(copy, raw), length(3)), [file.read_bytes()])
