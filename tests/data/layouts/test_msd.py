"""Volumes in the Decathlon's layout: slices as a radiologist sees them, whatever the axes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from PIL import Image

from primia_flwr.config.experiment.data import DataConfig, VolumesConfig
from primia_flwr.data.dataset import load_own_site
from primia_flwr.data.files.volumes import load_slices
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.errors import ConfigError, DataError

SIZE = (10, 12, 6)  # to the right, to the front, up
MARK = (8, 9, 1)  # a voxel on the right side, in front, low


def saved(path: Path, grid: np.ndarray, codes: str = "RAS") -> Path:
    """Save a grid that runs to the right, the front and up, with the axes of another order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    turned = nibabel.orientations.apply_orientation(grid, change)
    image = nibabel.Nifti1Image(turned, affine @ inv_ornt_aff(change, grid.shape))
    assert "".join(nibabel.aff2axcodes(image.affine)) == codes
    nibabel.save(image, path)
    return path


def marked(value: float = 100.0) -> np.ndarray:
    grid = np.zeros(SIZE, np.float32)
    grid[MARK] = value
    return grid


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "SPL", "AIR", "PSR"])
@pytest.mark.parametrize("label_codes", ["RAS", "LPS"])
def test_a_marked_voxel_is_where_a_radiologist_looks(
    tmp_path: Path, codes: str, label_codes: str
) -> None:
    image = saved(tmp_path / "image.nii.gz", marked(), codes)
    label = saved(tmp_path / "label.nii.gz", marked(2), label_codes)
    found = load_slices(image, label, (0.0, 200.0))
    assert found.pixels.shape == found.labels.shape == (6, 12, 10)
    # Second slice from below; third row from the front; second column from the patient's right.
    assert np.argwhere(found.pixels).tolist() == [[1, 2, 1]]
    assert found.pixels[1, 2, 1] == 128
    assert np.argwhere(found.labels == 2).tolist() == [[1, 2, 1]]


def test_tones_by_hand(tmp_path: Path) -> None:
    grid = np.zeros(SIZE, np.float32)
    grid[0, 0], grid[1, 0] = -1000, 1000
    image = saved(tmp_path / "a.nii.gz", grid)
    label = saved(tmp_path / "b.nii.gz", np.zeros(SIZE, np.uint8))
    found = load_slices(image, label, (-100.0, 300.0)).pixels
    assert sorted({int(v) for v in np.unique(found)}) == [0, 64, 255]  # 0 is a quarter of the way
    assert load_slices(label, label, None).pixels.max() == 0


def _damaged(root: Path) -> None:
    (root / "label.nii.gz").write_bytes((root / "label.nii.gz").read_bytes()[:90])


def _missing(root: Path) -> None:
    (root / "label.nii.gz").unlink()


def _smaller(root: Path) -> None:
    saved(root / "label.nii.gz", np.zeros((9, 12, 6), np.uint8))


def _elsewhere(root: Path) -> None:
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    affine[0, 3] = 7
    nibabel.save(nibabel.Nifti1Image(np.zeros(SIZE, np.uint8), affine), root / "label.nii.gz")


def _turned_a_little(root: Path) -> None:
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    affine[:2, :2] = 2 * np.array([[0.8, -0.6], [0.6, 0.8]])  # by 37 degrees
    nibabel.save(nibabel.Nifti1Image(np.zeros(SIZE, np.uint8), affine), root / "label.nii.gz")


def _with_forms(root: Path, sform: np.ndarray | None, qform: np.ndarray | None) -> None:
    image = nibabel.Nifti1Image(marked(1), None)
    image.set_sform(sform, code=int(sform is not None))
    image.set_qform(qform, code=int(qform is not None))
    nibabel.save(image, root / "label.nii.gz")


def _a_little_aside(root: Path) -> None:
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    affine[0, 3] = 0.03  # more than a hundredth of 2 mm; to three digits the same
    nibabel.save(nibabel.Nifti1Image(np.zeros(SIZE, np.uint8), affine), root / "label.nii.gz")


def test_a_hundredth_of_a_voxel_is_no_other_grid(tmp_path: Path) -> None:
    image, affine = saved(tmp_path / "image.nii.gz", marked()), np.diag([2.0, 2.0, 5.0, 1.0])
    for mm, same in ((0.019, True), (0.021, False)):
        affine[0, 3] = mm
        nibabel.save(nibabel.Nifti1Image(np.zeros(SIZE, np.uint8), affine), tmp_path / "l.nii.gz")
        if same:
            load_slices(image, tmp_path / "l.nii.gz", None)
            continue
        with pytest.raises(DataError, match=r"corners are up to 0\.021 mm from it"):
            load_slices(image, tmp_path / "l.nii.gz", None)


def test_directions_that_differ_read_differently(tmp_path: Path) -> None:
    # Voxels 500 mm wide: turned by 0.0001, the far corner is 0.55 mm away; 2 mm are no 0.02.
    affine = np.diag([500.0, 500.0, 2.0, 1.0])
    for name, turn in (("image", 0.0), ("label", 1e-4)):
        cos, sin = np.cos(0.5 + turn), np.sin(0.5 + turn)
        affine[:2, :2] = 500 * np.array([[cos, -sin], [sin, cos]])
        grid = nibabel.Nifti1Image(np.zeros(SIZE, np.uint8), affine)
        nibabel.save(grid, tmp_path / f"{name}.nii.gz")
    # cos and sin of 0.5 and of 0.5001, whose first four digits are 0.8776 or 0.8775, and 0.4795
    with pytest.raises(DataError, match=r"\[0\.8775346 -0\.4795133 0; .*\[0\.8775826 -0\.4794255"):
        load_slices(tmp_path / "image.nii.gz", tmp_path / "label.nii.gz", None)


def test_what_is_small_at_the_corner_is_large_at_the_other(tmp_path: Path) -> None:
    image, affine = saved(tmp_path / "image.nii.gz", marked()), np.diag([2.0, 2.0, 5.0, 1.0])
    affine[0, 0] += 0.003  # of the tenth voxel's middle: 0.027 mm
    nibabel.save(nibabel.Nifti1Image(np.zeros(SIZE, np.uint8), affine), tmp_path / "l.nii.gz")
    with pytest.raises(DataError, match=r"corners are up to 0\.027 mm from it"):
        load_slices(image, tmp_path / "l.nii.gz", None)


def _nowhere(root: Path) -> None:
    _with_forms(root, None, None)


def test_another_format_is_named(tmp_path: Path) -> None:
    other = tmp_path / "a.mgz"
    nibabel.save(nibabel.MGHImage(marked(), np.eye(4)), other)
    with pytest.raises(DataError, match=r"a\.mgz: is a MGHImage; expected NIfTI"):
        load_slices(other, other, None)


def _mirrored(root: Path) -> None:
    _with_forms(root, np.diag([2.0, 2.0, 5.0, 1.0]), np.diag([-2.0, 2.0, 5.0, 1.0]))


def test_either_form_says_how_the_axes_lie(tmp_path: Path) -> None:
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    for sform, qform in ((affine, None), (None, affine), (affine, affine + 1e-4)):
        _with_forms(tmp_path, sform, qform)
        label = tmp_path / "label.nii.gz"
        assert np.argwhere(load_slices(label, label, None).labels).tolist() == [[1, 2, 1]]


def _four_axes(root: Path) -> None:
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((*SIZE, 2), np.uint8), np.eye(4)), root / "label.nii.gz"
    )


def _fractions(root: Path) -> None:
    saved(root / "label.nii.gz", np.full(SIZE, 0.5, np.float32))


def _of_colours(root: Path) -> None:
    colours = np.zeros(SIZE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), root / "label.nii.gz")


def _of_complex(root: Path) -> None:
    saved(root / "label.nii.gz", np.zeros(SIZE, np.complex64))


def _not_finite(root: Path) -> None:
    saved(root / "label.nii.gz", np.full(SIZE, np.nan, np.float32))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_damaged, r"label\.nii\.gz cannot be read"),
        (_missing, r"label\.nii\.gz cannot be read \(No such file"),
        (
            _smaller,
            r"label\.nii\.gz: 6x12x9 voxels .* expected the grid of image\.nii\.gz, 6x12x10",
        ),
        (_elsewhere, r"of 2, 2, 5 mm from 7, 0, 0 mm .* of 2, 2, 5 mm from 0, 0, 0 mm"),
        (
            _turned_a_little,
            r"along \[0\.8 -0\.6 0; 0\.6 0\.8 0; 0 0 1\]; .* \[1 0 0; 0 1 0; 0 0 1\]",
        ),
        (_a_little_aside, r"from 0\.03, 0, 0 mm .* corners are up to 0\.03 mm from it"),
        (_nowhere, r"label\.nii\.gz: does not say how its axes lie"),
        (_mirrored, r"label\.nii\.gz: its axes run to RAS by sform and to LAS by qform"),
        (_four_axes, "expected three axes"),
        (_fractions, "no whole numbers"),
        (_not_finite, "not finite"),
        (_of_colours, r"label\.nii\.gz: has several numbers a voxel"),
        (_of_complex, r"label\.nii\.gz: has several numbers a voxel"),
    ],
)
def test_what_is_no_pair_of_volumes_is_named(tmp_path: Path, harm, words: str) -> None:
    image = saved(tmp_path / "image.nii.gz", marked())
    saved(tmp_path / "label.nii.gz", marked(1))
    harm(tmp_path)
    with pytest.raises(DataError, match=words):
        load_slices(image, tmp_path / "label.nii.gz", None)


def decathlon(root: Path, cases: int = 6, first: int = 0) -> DataConfig:
    for number in range(first, first + cases):
        labels = marked(1 + number % 2).astype(np.uint8)
        image = np.random.default_rng(number).uniform(0, 100, SIZE).astype(np.float32)
        image[:, :, 5] = 0  # air
        saved(root / f"in/imagesTr/liver_{number}.nii.gz", image, "LAS")
        saved(root / f"in/labelsTr/liver_{number}.nii.gz", labels, "LAS")
    about = {
        "labels": {"0": "background", "2": "tumour", "1": "liver"},
        "training": [
            {"image": f"./imagesTr/liver_{n}.nii.gz", "label": f"./labelsTr/liver_{n}.nii.gz"}
            for n in range(first, first + cases)
        ],
    }
    (root / "in/dataset.json").write_text(json.dumps(about))
    return DataConfig(
        task="segmentation", layout="msd", root=str(root / "in"), image_size=16,
        cache_dir=str(root / "cache"), test_fraction=0.2, val_fraction=0.3,
        volumes=VolumesConfig(window=[0.0, 100.0], slices="labelled"),
    )  # fmt: skip


def test_cases_are_patients_and_slices_images(tmp_path: Path) -> None:
    cfg = decathlon(tmp_path)
    manifest = read_manifest(cfg, seed=1)
    assert manifest.classes == ("background", "liver", "tumour")
    assert manifest.patients() == tuple(f"liver_{n}" for n in range(6))
    assert manifest.samples[1].path == "images/liver_1/0002.png"
    mask = np.asarray(Image.open(manifest.root / manifest.samples[1].mask))
    assert np.argwhere(mask == 2).tolist() == [[2, 1]]
    whole = read_manifest(replace(cfg, volumes=VolumesConfig()), seed=1)
    assert len(whole) == 6 * 5  # of a slice of air nobody could be known
    assert len({s.patient for s in whole.samples}) == 6
    site = load_own_site(replace(cfg, classes=list(manifest.classes)), seed=1, name="x")
    assert len(site.train) + len(site.val) == 6


def test_stacks_of_slices_are_square_and_of_one_length(tmp_path: Path) -> None:
    cfg = replace(decathlon(tmp_path), frames=4, channels=4, image_size=16)
    manifest = read_manifest(cfg, seed=1)
    # Six slices of 12 x 10 are two stacks of four of 12 x 12, a column added at either side; the
    # second, which is not labelled, is not taken.
    assert [s.path for s in manifest.samples] == [f"images/liver_{n}/0001.png" for n in range(6)]
    pixels, mask = (
        np.asarray(Image.open(manifest.root / name))
        for name in (manifest.samples[1].path, manifest.samples[1].mask)
    )
    assert pixels.shape == mask.shape == (12, 48)
    assert np.argwhere(mask == 2).tolist() == [[2, 12 + 1 + 1]]  # in the second slice
    assert not pixels.reshape(12, 4, 12)[:, :, [0, 11]].any()
    all_of_them = replace(cfg, volumes=VolumesConfig(window=[0.0, 100.0]))
    stacks = read_manifest(all_of_them, seed=1)
    last = np.asarray(Image.open(stacks.root / "images/liver_1/0002.png")).reshape(12, 4, 12)
    assert last[:, 0].any()
    assert not last[:, 1:].any()  # air, and two slices of nothing
    site = load_own_site(replace(cfg, classes=list(manifest.classes)), seed=1, name="x")
    assert site.train.images.shape[1:] == (4, 16, 16)
    assert site.train.labels.shape[1:] == (16, 64)
    where = site.train.labels.reshape(-1, 16, 4, 16).amax(dim=(1, 3))
    assert (where[:, 1] > 0).all()
    assert not where[:, [0, 2, 3]].any()


def test_names_that_differ_behind_a_dot_are_two_cases(tmp_path: Path) -> None:
    cfg = decathlon(tmp_path, cases=2)
    for kind in ("imagesTr", "labelsTr"):
        for n in range(2):
            (tmp_path / f"in/{kind}/liver_{n}.nii.gz").rename(tmp_path / f"in/{kind}/a.{n}.nii.gz")
    text = (tmp_path / "in/dataset.json").read_text().replace("liver_", "a.")
    (tmp_path / "in/dataset.json").write_text(text)
    assert read_manifest(cfg, seed=1).patients() == ("a.0", "a.1")


def test_a_stack_is_as_high_as_all_slices_need(tmp_path: Path) -> None:
    cfg = replace(decathlon(tmp_path, cases=2), frames=8, channels=8, image_size=16)
    (first, _) = read_manifest(cfg, seed=1).samples
    assert first.path == "images/liver_0/0001.png"


def _json(text: str) -> object:
    return lambda root: (root / "in/dataset.json").write_text(text)


def _strange_label(root: Path) -> None:
    saved(root / "in/labelsTr/liver_0.nii.gz", marked(7).astype(np.uint8), "LAS")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_json("{}"), r"dataset\.json cannot be read .* expected a file with"),
        (_json('{"labels": {"0": "a", "1": "b"}, "training": []}'), r"0 case\(s\)"),
        (
            _json(
                '{"labels": {"0": "a", "1": "b"}, "training": '
                '[{"image": "../x.nii.gz", "label": "y.nii.gz"}]}'
            ),
            "leads out of",
        ),
        (
            _json(
                '{"labels": {"0": "a", "1": "b"}, "training": '
                '[{"image": "imagesTr/.nii.gz", "label": "y.nii.gz"}]}'
            ),
            r"dataset\.json: the image 'imagesTr/\.nii\.gz' has no name",
        ),
        (
            _json(
                '{"labels": {"0": "a", "1": "b"}, "training": '
                '[{"image": "imagesTr/...nii.gz", "label": "y.nii.gz"}]}'
            ),
            r"dataset\.json: the image 'imagesTr/\.\.\.nii\.gz' has no name",
        ),
        (
            _json('{"labels": {"0": "a", "1": "b", "2": "b"}, "training": []}'),
            r"dataset\.json: 3 labels with 2 name\(s\) and 2 number\(s\); expected one of",
        ),
        (
            _json('{"labels": {"0": "a", "00": "b"}, "training": []}'),
            r"dataset\.json: 2 labels with 2 name\(s\) and 1 number\(s\); expected one of",
        ),
        (lambda root: (root / "in/labelsTr/liver_3.nii.gz").unlink(), "liver_3.nii.gz: cannot be"),
        (_strange_label, r"liver_0\.nii\.gz: the label 7; expected one of \[0, 1, 2\]"),
    ],
)
def test_what_is_no_decathlon_is_named(tmp_path: Path, harm, words: str) -> None:
    cfg = decathlon(tmp_path)
    harm(tmp_path)
    with pytest.raises(DataError, match=words):
        read_manifest(cfg, seed=1)
    assert not list((tmp_path / "cache").glob("slices-*"))


def test_classes_of_the_experiment_are_those_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels background, liver, tumour; expected those of"):
        read_manifest(replace(decathlon(tmp_path), classes=["background", "spleen"]), seed=1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": [1.0]}, r"data\.volumes\.window"),
        ({"window": [5.0, 5.0]}, r"data\.volumes\.window\[1\]"),
        ({"slices": "some"}, r"data\.volumes\.slices"),
        ({"levels": [1.0]}, r"data\.volumes\.levels has 1 entries"),
        ({"levels": [1.0, 1.0]}, r"data\.volumes\.levels\[1\]"),
        ({"levels": [float("nan"), 1.0]}, r"data\.volumes\.levels\[0\]"),
    ],
)
def test_a_wrong_key_is_named(changes, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        VolumesConfig(**changes)
