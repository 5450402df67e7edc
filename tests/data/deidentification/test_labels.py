"""Masks stay with their images, and findings with theirs, where nothing names a patient."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from primia_flwr.cli.main import run
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.deidentification.masks import REMOVED, bare_mask
from primia_flwr.data.files.masks import decode_mask
from primia_flwr.data.manifest import Manifest
from primia_flwr.data.pseudonyms import open_pseudonyms
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.errors import DataError

NAMES = ("anna_smith", "ben_jones", "carla_berg")
VALUES = (0, 7, 255)


def mask_of(number: int) -> np.ndarray:
    """(8, 6) values of a mask, of which each has another place."""
    values = np.zeros((8, 6), np.uint8)
    values[number, 1:3], values[7, number] = 7, 255
    return values


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Two images of each of three patients with their masks, in PNG and TIFF with texts."""
    root = tmp_path / "scans"
    for number, name in enumerate(NAMES):
        for k, suffix in ((1, "png"), (2, "tif")):
            for kind in ("images", "masks"):
                (root / kind / name).mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(np.full((8, 6), 40 * number + k, np.uint8))
            image.save(root / "images" / name / f"{name}_{k}.png")
            text = PngImagePlugin.PngInfo()
            text.add_text("Author", name)
            options: dict[str, Any] = (
                {"pnginfo": text} if suffix == "png" else {"description": name}
            )
            mask = Image.fromarray(mask_of(2 * number + k - 1))
            mask.save(root / "masks" / name / f"{name}_{k}.{suffix}", **options)
    return root


def deidentify(tmp_path: Path, *words: str) -> int:
    return run([
        "data", "deidentify", f"output_dir={tmp_path / 'out'}",
        f"data.cache_dir={tmp_path / 'state/cache'}", "data.workers=1", "quiet=true", *words,
    ])  # fmt: skip


def masked(root: Path) -> DataConfig:
    return DataConfig(
        task="segmentation", layout="paired", root=str(root),
        classes=["background", "lung", "lesion"], mask_values=list(VALUES),
    )  # fmt: skip


PAIRED = (
    "data=paired", "data.task=segmentation", "data.classes=[background,lung,lesion]",
    "data.mask_values=[0,7,255]",
)  # fmt: skip


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))


def test_pairs_stay_pairs_and_no_name_is_left(
    tmp_path: Path, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deidentify(tmp_path, *PAIRED, f"data.root={pairs}") == 0
    counts = told(capsys)
    assert (counts["images"], counts["masks"], counts["patients"]) == (6, 6, 3)
    copies = read_manifest(masked(tmp_path / "out"), seed=1)
    originals = read_manifest(masked(pairs), seed=1)
    pseudonyms = open_pseudonyms(tmp_path / "state/private")
    assert copies.patients() == tuple(sorted(map(pseudonyms.patient, NAMES)))
    shown = {}
    for found in (originals, copies):
        for sample in found.samples:
            image, mask = found.root / sample.path, found.root / sample.mask
            classes = decode_mask(mask, VALUES, image=image)
            shown.setdefault(int(np.asarray(Image.open(image))[0, 0]), []).append(classes)
    assert sorted(shown) == [1, 2, 41, 42, 81, 82]
    for before, after in shown.values():
        assert np.array_equal(before, after)
    for file in (tmp_path / "out").rglob("*"):
        name = file.relative_to(tmp_path / "out").as_posix()
        content = file.read_bytes() if file.is_file() else b""
        for patient in NAMES:
            assert patient not in name
            assert patient.encode() not in content


def test_the_record_says_what_became_of_masks(tmp_path: Path, pairs: Path) -> None:
    assert deidentify(tmp_path, *PAIRED, f"data.root={pairs}") == 0
    (folder,) = (tmp_path / "state/private/deidentified").iterdir()
    record = json.loads((folder / "record.json").read_text())
    masks = {path: one for path, one in record["files"].items() if path.startswith("masks/")}
    assert len(masks) == 6
    assert {tuple(one["removed"]) for one in masks.values()} == {(REMOVED,)}
    originals = (folder / "originals.csv").read_text()
    assert originals.count("masks/anna_smith/anna_smith_1.png,masks/p") == 1


def test_a_pair_whose_mask_is_wrong_is_left_out_as_one(
    tmp_path: Path, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.full((8, 6), 9, np.uint8)).save(
        pairs / "masks" / "ben_jones" / "ben_jones_1.png"
    )
    assert deidentify(tmp_path, *PAIRED, f"data.root={pairs}") == 1
    counts = told(capsys)
    assert (counts["images"], counts["masks"], counts["left_out"]) == (5, 5, 1)
    assert len(list((tmp_path / "out/images").rglob("*.png"))) == 5
    assert len(list((tmp_path / "out/masks").rglob("*.png"))) == 5


def test_a_table_of_masks_gets_a_table(tmp_path: Path, pairs: Path) -> None:
    lines = [
        f"images/{n}/{n}_1.png,masks/{n}/{n}_1.png,{n},{s}"
        for n, s in zip(NAMES, ("x", "x", "y"), strict=True)
    ]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(("path,mask,patient,site", *lines)) + "\n")
    words = [word.replace("data=paired", "data=manifest") for word in PAIRED]
    named = f"data.manifest={table}"
    assert deidentify(tmp_path, *words, f"data.root={pairs}", named) == 1  # three are not in it
    out = tmp_path / "out"
    cfg = DataConfig(
        task="segmentation", layout="manifest", manifest=str(out / "manifest.csv"),
        classes=["background", "lung", "lesion"], mask_values=list(VALUES),
    )  # fmt: skip
    samples = read_manifest(cfg, seed=1).samples
    assert sorted(s.site for s in samples) == ["x", "x", "y"]
    assert all(s.mask == s.path.replace("images/", "masks/") for s in samples)
    assert len({s.patient for s in samples}) == 3


def test_a_mask_is_a_new_file_of_its_values(tmp_path: Path) -> None:
    Image.new("L", (6, 8)).save(tmp_path / "a.png")
    stored = Image.fromarray(np.full((8, 6), 300, np.uint16))
    stored.save(tmp_path / "m.tif", description="anna_smith")
    data = Manifest(tmp_path, ("background", "lesion"), (), mask_values=(0, 300))
    content = bare_mask(data, "a.png", "m.tif")
    (tmp_path / "again.png").write_bytes(content)
    assert np.asarray(Image.open(tmp_path / "again.png")).tolist() == [[300] * 6] * 8
    assert b"anna" not in content
    Image.new("L", (8, 6)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="the mask has 6 x 8 pixels; expected 8 x 6"):
        bare_mask(data, "a.png", "m.tif")


def test_volumes_are_refused_with_what_helps(
    tmp_path: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_manifest(masked(pairs), seed=1)
    monkeypatch.setattr(
        "primia_flwr.data.deidentification.places.read_manifest", lambda *_, **__: found
    )
    words = ("data=msd", "data.task=segmentation", "data.classes=[background,lung,lesion]")
    assert deidentify(tmp_path, *words, f"data.root={pairs}") == 2
    told = capsys.readouterr().err
    assert told.startswith("error: data.layout=msd; expected images as files")
    assert not (tmp_path / "out").exists()


FINDINGS = """Path,No Finding,Edema,Fracture
CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.png,,1.0,-1.0
CheXpert-v1.0-small/train/patient00002/study1/view1_frontal.png,,0.0,
CheXpert-v1.0-small/train/patient00002/study1/view2_lateral.png,1.0,,1.0
"""


def test_findings_stay_with_their_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "CheXpert-v1.0-small"
    for number, line in enumerate(FINDINGS.splitlines()[1:]):
        file = tmp_path / line.partition(",")[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 6), number, np.uint8)).save(file)
    (root / "train.csv").write_text(FINDINGS)
    words = ("data=chexpert", "data.classes=[Edema,Fracture]", f"data.root={root}")
    assert deidentify(tmp_path, *words) == 0
    assert told(capsys)["masks"] == 0
    out = tmp_path / "out"
    assert [p.name for p in out.iterdir() if p.is_file()] == ["manifest.csv"]
    assert b"patient0000" not in (out / "manifest.csv").read_bytes()
    cfg = DataConfig(
        task="multilabel", layout="manifest", manifest=str(out / "manifest.csv"),
        classes=["Edema", "Fracture"],
    )  # fmt: skip
    copies = read_manifest(cfg, seed=1)
    shown = {
        int(np.asarray(Image.open(out / s.path))[0, 0]): (s.findings, s.patient)
        for s in copies.samples
    }
    first, second = (
        open_pseudonyms(tmp_path / "state/private").patient(f"patient0000{n}") for n in (1, 2)
    )
    assert shown == {0: ((1, -1), first), 1: ((0, -1), second), 2: ((0, 1), second)}
    assert {s.split for s in copies.samples} == {"train"}
