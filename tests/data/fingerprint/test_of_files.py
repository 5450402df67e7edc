"""The fingerprint of two small NIfTI volumes that lie askew, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, ornt_transform

from primia_flwr.config.experiment.data import DataConfig, VolumesConfig
from primia_flwr.data.fingerprint.facts import fingerprint
from primia_flwr.data.layouts.msd import volume_counts
from primia_flwr.errors import DataError

SIZE = (10, 11, 5)  # along x, y, z
SIDES = np.diag([2.0, 1.0, 4.0])  # mm
TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])  # by 37 degrees about z


def written(root: Path, codes: tuple[str, ...] = ("RAS", "SPL"), label: int = 1) -> DataConfig:
    """Write a volume in each order of axes: 100 everywhere, and 50, 150 in two labelled voxels."""
    affine = np.eye(4)
    affine[:3, :3] = TURN @ SIDES
    names = []
    for number, order in enumerate(codes):
        grid, labels = np.full(SIZE, 100, np.float32), np.zeros(SIZE, np.uint8)
        grid[1, 2, 3], grid[4, 4, 4] = 50, 150
        labels[1, 2, 3] = labels[4, 4, 4] = label
        names.append({"image": f"imagesTr/c_{number}.nii", "label": f"labelsTr/c_{number}.nii"})
        change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(order))
        for kind, array in (("image", grid), ("label", labels)):
            file = root / names[-1][kind]
            file.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, affine).as_reoriented(change), file)
    about = {"labels": {"0": "background", "1": "lesion"}, "training": names}
    (root / "dataset.json").write_text(json.dumps(about))
    return DataConfig(
        task="segmentation", layout="msd", root=str(root), cache_dir=str(root / "cache"),
        volumes=VolumesConfig(fingerprint=True, levels=[0.0, 4095.0]),
    )  # fmt: skip


def test_two_volumes_askew_by_hand(tmp_path: Path) -> None:
    counts, classes = volume_counts(written(tmp_path))
    found = fingerprint(counts, classes, (0.0, 4095.0))
    assert found["cases"] == 2
    # A voxel's sides are the columns' lengths, 4, 1 and 2 mm, whatever the turn and the order of
    # axes: ln 4 / ln 1.02 = 70.005 and ln 2 / ln 1.02 = 35.003.
    mm = {axis: row["p50"] for axis, row in found["spacing_mm"].items()}
    assert mm == {"z": round(1.02**70, 4), "y": 1.0, "x": round(1.02**35, 4)}
    # 5 x 4, 11 x 1 and 10 x 2 mm: ln 20 / ln 1.02 = 151.28, ln 11 / ln 1.02 = 121.09.
    mm = {axis: row["p50"] for axis, row in found["extent_mm"].items()}
    twenty, eleven = round(1.02**151, 4), round(1.02**121, 4)
    assert mm == {"z": twenty, "y": eleven, "x": twenty}
    assert found["labelled_voxels"] == {"background": 2 * (550 - 2), "lesion": 4}
    # 50, 50, 150, 150: mean 100, deviation 50; the second of four is not exceeded by half of them.
    assert found["intensity"] == {
        "mean": 100, "std": 50, "p0.5": 50, "median": 50, "p99.5": 150, "share_below": 0,
        "share_above": 0, "step": 1,
    }  # fmt: skip
    # y and x have 8 voxels and more, less than twice as far apart: halved once, 11 to 12 and 10.
    assert [found["suggested"]["patch"][axis] for axis in "zyx"] == [5, 12, 10]


def test_any_order_of_axes_is_the_same_fingerprint(tmp_path: Path) -> None:
    vectors = [
        volume_counts(written(tmp_path / code, (code,)))[0].vector()
        for code in ("RAS", "LPS", "SPL", "AIR", "PSR")
    ]
    assert all(vector == vectors[0] for vector in vectors)


def test_a_label_that_is_no_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"c_0\.nii: the label 7; expected one of \[0, 1\]"):
        volume_counts(written(tmp_path, label=7))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:-9], "it is no JSON"),
        (lambda text: "[" + text[2:], "expected counts of one volume: delete"),  # 0 cases for 1
        (lambda text: text[:-1] + ", 0]", "numbers of 1 volume"),
        (lambda text: "7", "expected counts of one volume: delete"),
    ],
)
def test_a_damaged_file_of_counts_is_one_sentence(tmp_path: Path, change, said: str) -> None:
    cfg = written(tmp_path, ("RAS",))
    volume_counts(cfg)
    (file,) = (tmp_path / "cache").glob("*/counts/*.json")
    file.write_text(change(file.read_text()))
    with pytest.raises(DataError, match=rf"c_0\.json cannot be read .*{said}"):
        volume_counts(cfg)


def test_no_volumes_count_as_none(tmp_path: Path) -> None:
    assert volume_counts(written(tmp_path), [])[0].cases == 0
