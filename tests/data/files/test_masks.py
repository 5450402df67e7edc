"""Masks: values as they are stored, one size with the image, and geometry that moves both."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from primia_flwr.config.experiment.data import (
    AugmentationConfig,
    CropConfig,
    DataConfig,
    FlipConfig,
)
from primia_flwr.data.check import check_data
from primia_flwr.data.dataset import load_own_site, load_site, load_test
from primia_flwr.data.files.masks import decode_mask, resize_mask, restore_mask
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.data.transforms import build_augmentation, move_both
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.training.loader import augmented
from tests.data.files.writers import tiff

MASK = np.array([[0, 1, 2, 0]] * 3, np.uint8)
IMAGE = Path("image.png")  # only a segmentation asks for it
_GEOMETRY = {"affine", "flip", "crop", "elastic"}


def saved(path: Path, array: np.ndarray, mode: str = "L", **how: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if mode == "P":
        image.putpalette([7, 7, 7, 200, 0, 0, 0, 0, 200])
    (image if mode == "P" else image.convert(mode)).save(path, **how)
    return path


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        *((mode, form) for mode in ("L", "P", "RGB", "I;16") for form in ("PNG", "TIFF")),
        ("I", "TIFF"),
    ],
)
def test_values_are_those_of_the_file(tmp_path: Path, mode: str, form: str) -> None:
    file = saved(tmp_path / "mask", MASK, mode, format=form)
    assert np.array_equal(decode_mask(file, (0, 1, 2), image=IMAGE), MASK)


def test_values_stand_for_classes_in_the_order_given(tmp_path: Path) -> None:
    file = saved(tmp_path / "mask.png", np.array([[0, 255], [128, 255]], np.uint8))
    assert decode_mask(file, (255, 0, 128), image=IMAGE).tolist() == [[1, 0], [2, 0]]
    black = saved(tmp_path / "bit.png", np.array([[0, 255]], np.uint8), "1")
    assert decode_mask(black, (0, 1), image=IMAGE).tolist() == [[0, 1]]


def test_a_value_that_is_no_class_is_named(tmp_path: Path) -> None:
    file = saved(tmp_path / "mask.png", np.array([[0, 255]], np.uint8))
    with pytest.raises(DataError, match=r"mask\.png: the mask has the value 255; expected one of"):
        decode_mask(file, (0, 1), image=IMAGE)


@pytest.mark.parametrize(
    ("form", "array", "words"),
    [
        ("JPEG", MASK, "no PNG, TIFF or DICOM SEG by its content"),
        ("PNG", np.dstack([MASK, MASK, 2 * MASK]), "coloured image"),
        ("PNG", np.dstack([MASK] * 4), "coloured image"),
        ("TIFF", MASK.astype(np.float32), "the mask is of floats; expected one whole number"),
    ],
)
def test_what_changes_values_is_no_mask(
    tmp_path: Path, form: str, array: np.ndarray, words: str
) -> None:
    Image.fromarray(array).save(tmp_path / "mask", format=form)
    with pytest.raises(DataError, match=words):
        decode_mask(tmp_path / "mask", (0, 1, 2), image=IMAGE)


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_a_mask_whose_white_is_zero_is_not_guessed(tmp_path: Path, bits: int) -> None:
    array = (MASK > 0).astype(np.uint16)
    stored = tiff(tmp_path / "plain.tif", array, bits=bits)
    assert np.array_equal(decode_mask(stored, (0, 1), image=IMAGE), array)
    turned = tiff(tmp_path / "white.tif", array, bits=bits, photometric=0)
    with pytest.raises(DataError, match=r"white\.tif: .*PhotometricInterpretation 0"):
        decode_mask(turned, (0, 1), image=IMAGE)


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x89PNG\r\n\x1a\n"])
def test_a_damaged_mask_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(DataError, match=r"mask\.png"):
        decode_mask(tmp_path / "mask.png", (0, 1), image=IMAGE)
    with pytest.raises(DataError, match=r"none\.png"):
        decode_mask(tmp_path / "none.png", (0, 1), image=IMAGE)


def test_resizing_gives_no_class_that_was_not_there() -> None:
    mask = np.zeros((40, 20), np.uint8)
    mask[10:30, 5:15] = 2
    for mode in ("squash", "pad", "crop"):
        small = resize_mask(mask, 16, mode=mode)
        assert small.shape == (1, 16, 16)
        assert set(np.unique(small)) == {0, 2}
    assert resize_mask(mask, 16, mode="pad")[0, :, :4].max() == 0
    assert resize_mask(mask, 20, mode="crop")[0].tolist() == mask[10:30].tolist()


@pytest.mark.parametrize("name", [part.name for part in fields(AugmentationConfig)])
def test_geometry_moves_both_and_tones_the_image_alone(name: str) -> None:
    """An image that is its own mask, 100 times as bright: it stays so where both move."""
    part = getattr(AugmentationConfig(), name)
    switched = FlipConfig(1.0, 1.0) if name == "flip" else replace(part, probability=1.0)
    augment = build_augmentation(AugmentationConfig(**{name: switched}))
    assert augment is not None
    mask = torch.zeros(64, 64, dtype=torch.uint8)
    mask[20:50, 10:30] = 1
    image = (100 * mask)[None].repeat(3, 1, 1)
    torch.manual_seed(1)
    changed, moved = move_both(augment, image, mask)
    assert type(moved) is torch.Tensor
    assert moved.dtype == torch.uint8
    assert moved.shape == mask.shape
    if name in _GEOMETRY:
        agrees = ((changed[0] > 50) == (moved == 1)).float().mean()
        assert agrees > 0.99
        assert not torch.equal(moved, mask)
    else:
        assert torch.equal(moved, mask)


@pytest.mark.parametrize("name", [part.name for part in fields(AugmentationConfig)])
def test_the_masks_of_frames_move_as_the_frames_do(name: str) -> None:
    part = getattr(AugmentationConfig(), name)
    switched = FlipConfig(1.0, 1.0) if name == "flip" else replace(part, probability=1.0)
    augment = build_augmentation(AugmentationConfig(**{name: switched}))
    assert augment is not None
    masks = torch.zeros(4, 64, 64, dtype=torch.uint8)
    for frame in range(4):
        masks[frame, 20:50, 5 + 8 * frame : 25 + 8 * frame] = 1
    torch.manual_seed(1)
    side_by_side = torch.cat([*masks], dim=1)
    changed, moved = move_both(augment, 100 * masks, side_by_side)
    assert (changed.shape, moved.shape) == ((4, 64, 64), (64, 256))
    for frame, mask in zip(changed, moved.split(64, dim=1), strict=True):
        if name in _GEOMETRY:
            assert ((frame > 50) == (mask == 1)).float().mean() > 0.99
    assert torch.equal(moved, side_by_side) == (name not in _GEOMETRY)


def test_an_image_is_changed_alike_with_a_mask_and_without() -> None:
    cfg = AugmentationConfig(
        flip=FlipConfig(0.5, 0.5), crop=CropConfig(1.0), affine=replace(AugmentationConfig().affine,
        probability=1.0),
    )  # fmt: skip
    augment = build_augmentation(cfg)
    assert augment is not None
    images = torch.randint(0, 255, (6, 1, 32, 32), dtype=torch.uint8)
    masks = (images[:, 0] > 128).to(torch.uint8)
    alone, labels = augmented(images, torch.arange(6), range(6), augment)
    both, moved = augmented(images, masks, range(6), augment)
    assert torch.equal(alone, both)
    assert labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert moved.shape == masks.shape


def folder(root: Path, patients: int = 12) -> DataConfig:
    for number in range(patients):
        image = np.full((24, 20), 10 * number, np.uint8)
        mask = np.zeros((24, 20), np.uint8)
        mask[number : number + 6, 5:10] = 255 * (number % 2)
        saved(root / f"data/images/p{number}/a.png", image)
        saved(root / f"data/masks/p{number}/a.tif", mask)
    return DataConfig(
        task="segmentation", layout="paired", root=str(root / "data"), image_size=16,
        classes=["background", "lesion"], mask_values=[0, 255], cache_dir=str(root / "cache"),
        test_fraction=0.25, val_fraction=0.25,
    )  # fmt: skip


def test_images_and_masks_of_one_name_are_a_pair(tmp_path: Path) -> None:
    cfg = folder(tmp_path)
    manifest = read_manifest(cfg, seed=1)
    first = manifest.samples[0]
    assert (first.path, first.mask, first.patient) == (
        "images/p0/a.png", "masks/p0/a.tif", "p0",
    )  # fmt: skip
    site = load_own_site(cfg, seed=1, name="x")
    assert site.train.labels.shape == (9, 16, 16)
    assert site.train.labels.dtype == torch.uint8
    for patient, mask in zip(site.train.patients, site.train.labels, strict=True):
        assert int(mask.max()) == int(patient[1:]) % 2
    assert site.train.label_counts() == [
        sum(int(p[1:]) % 2 == k for p in site.train.patients) for k in (0, 1)
    ]
    sites = [load_site(cfg, seed=1, site_index=k, num_sites=2) for k in range(2)]
    parts = [set(s.train.patients) | set(s.val.patients) for s in sites]
    parts.append(set(load_test(cfg, seed=1).patients))
    assert sum(len(part) for part in parts) == 12 == len(set.union(*parts))


def _lonely_image(root: Path) -> None:
    (root / "data/masks/p3/a.tif").unlink()


def _lonely_mask(root: Path) -> None:
    (root / "data/images/p3/a.png").unlink()


def _two_of_a_name(root: Path) -> None:
    saved(root / "data/masks/p3/a.png", MASK)


def _no_folder(root: Path) -> None:
    (root / "data/masks").rename(root / "data/labels")


def _other_size(root: Path) -> None:
    saved(root / "data/masks/p3/a.tif", np.zeros((20, 24), np.uint8))


def _other_value(root: Path) -> None:
    saved(root / "data/masks/p3/a.tif", np.full((24, 20), 7, np.uint8))


def _cut_off(root: Path) -> None:
    file = root / "data/masks/p3/a.tif"
    file.write_bytes(file.read_bytes()[:60])


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_lonely_image, r"1 image\(s\) without a partner, e\.g\. images/p3/a\.png"),
        (_lonely_mask, r"1 mask\(s\) without a partner, e\.g\. masks/p3/a\.tif"),
        (_two_of_a_name, "the same name but for its suffix"),
        (_no_folder, "no folder masks/"),
        (_other_size, r"the mask has 24 x 20 pixels; expected 20 x 24"),
        (_other_value, r"p3/a\.tif: the mask has the value 7"),
        (_cut_off, r"p3/a\.tif: damaged or cut off"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, harm, words: str) -> None:
    cfg = folder(tmp_path)
    harm(tmp_path)
    with pytest.raises(DataError, match=words):
        load_own_site(cfg, seed=1, name="x")


def test_a_mask_that_cannot_be_read_takes_its_image_along_if_that_is_wanted(tmp_path: Path) -> None:
    cfg = replace(folder(tmp_path), skip_unreadable=True)
    _cut_off(tmp_path)
    site = load_own_site(cfg, seed=1, name="x")
    assert "p3" not in {*site.train.patients, *site.val.patients}
    assert len(site.train) + len(site.val) == 11


def test_a_changed_mask_is_read_again(tmp_path: Path) -> None:
    cfg = folder(tmp_path)
    before = load_own_site(cfg, seed=1, name="x").train.label_counts()
    for number in range(12):
        saved(
            tmp_path / f"data/masks/p{number}/a.tif", np.full((24, 20), 255, np.uint8), dpi=(9, 9)
        )
    assert load_own_site(cfg, seed=1, name="x").train.label_counts() == [0, sum(before)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": [], "mask_values": []}, r"data\.classes=\[\]; expected what the values"),
        ({"task": "classification"}, "the data has masks; expected none: set task=segmentation"),
    ],
)
def test_a_layout_that_does_not_fit_the_task_is_refused(tmp_path: Path, changes, words) -> None:
    with pytest.raises(ConfigError, match=words):
        read_manifest(replace(folder(tmp_path), **changes), seed=1)


def test_class_folders_have_no_masks(tmp_path: Path) -> None:
    saved(tmp_path / "well/a.png", MASK)
    saved(tmp_path / "ill/a.png", MASK)
    cfg = DataConfig(task="segmentation", layout="folder", root=str(tmp_path))
    with pytest.raises(ConfigError, match="the data has no masks; expected one of each image"):
        read_manifest(cfg, seed=1)


@pytest.mark.parametrize("values", [[0], [0, 0], [0, 1, 2], [0, -1], [0, 70000]])
def test_values_of_masks_are_one_a_class(values: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"data\.mask_values"):
        DataConfig(classes=["background", "lesion"], mask_values=values)


def test_synthetic_masks_are_what_the_formula_knows(tmp_path: Path) -> None:
    cfg = DataConfig(task="segmentation", cache_dir=str(tmp_path), image_size=64)
    cfg = replace(cfg, synthetic=replace(cfg.synthetic, patients=20))
    manifest = read_manifest(cfg, seed=1)
    assert manifest.classes == ("background", "lung", "consolidation")
    assert manifest.synthetic
    test = load_test(cfg, seed=1)
    shares = (test.labels.reshape(len(test), -1, 1) == torch.arange(3)).float().mean(1)
    assert (shares[:, 1] > 0.05).all()
    cloudy = torch.tensor(["bacteria" in file for file in test.files])
    assert (shares[~cloudy, 2] == 0).all()
    assert (shares[cloudy, 2] > 0).float().mean() > 0.5
    with pytest.raises(DataError, match=r"expected \[\] or \['background', 'lung'"):
        read_manifest(replace(cfg, classes=["a", "b"]), seed=1)


@pytest.mark.parametrize("mode", ["squash", "pad", "crop"])
@pytest.mark.parametrize("size", [(32, 32), (64, 32), (32, 96)])
def test_a_mask_comes_back_to_the_size_of_its_image(size: tuple[int, int], mode: str) -> None:
    mask = np.zeros(size, np.uint8)
    top, left = (side // 2 for side in size)
    mask[top - 8 : top + 8, left - 8 : left + 8] = 1
    back = restore_mask(resize_mask(mask, 128, mode=mode)[0], size, mode=mode)
    assert back.shape == size
    assert (back == mask).mean() > 0.98


def test_what_is_padded_comes_back_from_where_the_image_was() -> None:
    """Of 64 columns 41 show an image of 640 x 1000, from the 12th on: round(64 * 0.64), 23 / 2."""
    square = np.zeros((64, 64), np.uint8)
    square[:, 12:53] = 1
    square[:, 32] = 2  # the middle one of the 41: columns 20/41 * 640 to 21/41 * 640
    back = restore_mask(square, (1000, 640), mode="pad")
    assert (back != 0).all()
    assert np.flatnonzero(back[0] == 2).tolist() == list(range(312, 328))


def table(root: Path, *, drop: str = "") -> DataConfig:
    cfg = folder(root)
    lines = ["image,segmentation,person"]
    lines += [f"images/p{n}/a.png,masks/p{n}/a.tif,q{n // 2}" for n in range(12)]
    (root / "data/table.csv").write_text("\n".join(lines).replace(drop, "") + "\n")
    columns = {"path": "image", "mask": "segmentation", "patient": "person"}
    return replace(cfg, layout="manifest", manifest=str(root / "data/table.csv"), columns=columns)


def test_a_table_names_masks(tmp_path: Path) -> None:
    manifest = read_manifest(table(tmp_path), seed=1)
    assert [s.mask for s in manifest.samples[:2]] == ["masks/p0/a.tif", "masks/p1/a.tif"]
    assert manifest.patients() == tuple(f"q{n}" for n in range(6))
    manifest.write_csv(tmp_path / "part.csv")
    header, first, *_ = (tmp_path / "part.csv").read_text().splitlines()
    assert header == "path,mask,patient,site,split"
    assert first == "images/p0/a.png,masks/p0/a.tif,q0,,"
    again = replace(table(tmp_path), manifest=str(tmp_path / "part.csv"), columns={})
    assert read_manifest(again, seed=1).samples == manifest.samples


def test_a_table_without_the_column_or_a_cell_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected path,mask and optionally"):
        read_manifest(replace(table(tmp_path), columns={"path": "image"}), seed=1)
    with pytest.raises(DataError, match="line 2: mask is ''"):
        read_manifest(table(tmp_path, drop="masks/p0/a.tif"), seed=1)
    (tmp_path / "data/table.csv").write_text("path,mask\nimages/p0/a.png,../secret.png\n")
    with pytest.raises(DataError, match="leads out of"):
        read_manifest(replace(table_of(tmp_path), columns={}), seed=1)


def table_of(root: Path) -> DataConfig:
    return replace(folder(root), layout="manifest", manifest=str(root / "data/table.csv"))


def test_a_check_counts_images_by_their_last_class_and_names_bad_masks(tmp_path: Path) -> None:
    cfg = folder(tmp_path)
    good = check_data(cfg, seed=1)
    assert good.ok
    assert {name: of["images"] for name, of in good.classes.items()} == {
        "background": 6, "lesion": 6,
    }  # fmt: skip
    _other_size(tmp_path)
    found = check_data(cfg, seed=1)
    assert not found.ok
    assert "expected 20 x 24" in found.unreadable["images/p3/a.png"]


def test_a_folder_alone_is_read_as_pairs(tmp_path: Path) -> None:
    cfg = replace(folder(tmp_path), layout="auto")
    assert len(read_manifest(cfg, seed=1)) == 12
