"""Tables of several findings an image, as the public sets have them."""

from __future__ import annotations

import gzip
from pathlib import Path

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.reading.any_layout import read_manifest
from tests.data.layouts import test_findings as honest
from tests.fuzz.loaders.target import Made, put, target


def _read(layout: str, root: Path, *classes: str) -> None:
    cfg = DataConfig(layout=layout, task="multilabel", root=str(root), classes=list(classes))
    found = read_manifest(cfg, seed=1)
    for sample in found.samples:
        assert ".." not in Path(sample.path).parts
        assert not Path(sample.path).is_absolute()
        assert set(sample.findings) <= {1, 0, -1}


@target("findings of chexpert")
def chexpert(folder: Path) -> Made:
    honest.put(folder, honest.FIRST)
    file = folder / "train.csv"
    return Made(
        lambda raw: (put(file, raw), _read("chexpert", folder, "Edema", "Fracture")),
        [honest.CHEXPERT.encode()],
    )


@target("findings of padchest")
def padchest(folder: Path) -> Made:
    honest.put(folder, "0/a.png")
    file = folder / "PADCHEST.csv"
    return Made(
        lambda raw: (put(file, raw), _read("padchest", folder, "cardiomegaly", "normal")),
        [honest.PADCHEST.encode()],
    )


@target("findings of nih")
def nih(folder: Path) -> Made:
    """A list of the official split, beside an honest table."""
    honest.nih(folder)
    honest.put(folder, "images/00000001_000.png")
    put(folder / "train_val_list.txt", b"00000001_000.png\n00000001_001.png\n")
    file = folder / "test_list.txt"
    return Made(
        lambda raw: (put(file, raw), _read("nih", folder, *honest.NIH_NAMES)),
        [b"00000002_000.png\n"],
    )


@target("findings of mimic")
def mimic(folder: Path) -> Made:
    """A packed table of labels, beside an honest split."""
    honest.mimic(folder)
    honest.put(folder, "files/p10/p10000032/s50414267/02aa804e-bde0afdd.jpg")
    file = folder / "mimic-cxr-2.0.0-chexpert.csv.gz"
    return Made(
        lambda raw: (put(file, raw), _read("mimic_cxr", folder, "Edema", "Fracture")),
        [gzip.compress(honest.STUDIES.encode())],
    )
