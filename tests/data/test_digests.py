"""Every image carries the SHA-256 of its file, and nothing of a run's configuration changes it."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from primia_flwr.config.experiment.data import DataConfig, NormalisationConfig, SyntheticConfig
from primia_flwr.data.dataset import load_own_site, load_pooled, load_site, load_test
from primia_flwr.data.files.listing import file_digest
from primia_flwr.errors import DataError
from tests.data.everything import load_all


def digests(cfg: DataConfig) -> list[str]:
    return sorted(load_all(cfg, seed=1).digests)


def test_digests_are_those_of_the_files(class_folders: DataConfig) -> None:
    for _ in ("decoded", "from the cache"):
        data = load_all(class_folders, seed=1)
        for path, digest in zip(data.files, data.digests, strict=True):
            content = (Path(class_folders.root) / path).read_bytes()
            assert digest == hashlib.sha256(content).hexdigest()
    part = data.select([5, 2])
    assert part.digests == (data.digests[5], data.digests[2])
    assert part.joined(data).digests == part.digests + data.digests


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": 64},
        {"channels": 3},
        {"resize": "crop"},
        {"val_fraction": 0.4},
        {"normalisation": NormalisationConfig(kind="fixed", mean=[0.1], std=[0.9])},
        {"patient_pattern": "(?P<patient>[^/]+)[.]png"},
        {"classes": ["well", "ill"]},
        {"skip_unreadable": True},
    ],
)
def test_what_a_coordinator_may_choose_does_not_change_them(
    class_folders: DataConfig, change: dict[str, object]
) -> None:
    assert digests(replace(class_folders, **change)) == digests(class_folders)


def test_another_root_other_names_and_a_manifest_do_not_change_them(
    class_folders: DataConfig, tmp_path: Path
) -> None:
    expected = digests(class_folders)
    copied = tmp_path / "elsewhere"
    for file in sorted(Path(class_folders.root).rglob("*.png")):
        label = file.parts[-3]
        target = copied / f"{label}-{file.parts[-2]}-{file.name}"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(file, target)
    rows = [f"{file.name},{file.name.split('-')[0]}" for file in sorted(copied.iterdir())]
    (tmp_path / "a.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    table = DataConfig(
        layout="manifest",
        manifest=str(tmp_path / "a.csv"),
        root=str(copied),
        cache_dir=class_folders.cache_dir,
        image_size=16,
    )
    assert digests(table) == expected


def test_all_ways_to_load_a_site_have_them(class_folders: DataConfig) -> None:
    site = load_site(class_folders, seed=1, site_index=0, num_sites=2)
    own = load_own_site(class_folders, seed=1, name="munich")
    pooled = load_pooled(class_folders, seed=1, num_sites=2)
    parts = (site.train, site.val, own.train, own.val, pooled.train, pooled.val)
    for images in (*parts, load_test(class_folders, seed=1)):
        assert len(images.digests) == len(images) > 0
    assert sorted(own.train.joined(own.val).digests) == digests(class_folders)


def test_synthetic_images_have_them_whatever_their_size(tmp_path: Path) -> None:
    cfg = DataConfig(
        layout="synthetic",
        cache_dir=str(tmp_path),
        image_size=16,
        synthetic=SyntheticConfig(patients=12),
    )
    assert digests(cfg) == digests(replace(cfg, image_size=32))
    assert len(set(digests(cfg))) == len(digests(cfg))


@pytest.mark.parametrize("damage", ["0" * 63, "G" * 64, 7, None])
def test_a_store_without_a_digest_each_is_made_anew(
    class_folders: DataConfig, damage: object
) -> None:
    expected = digests(class_folders)
    (index,) = Path(class_folders.cache_dir).glob("images-*/index.json")
    content = json.loads(index.read_text())
    name = next(iter(content["digests"]))
    if damage is None:
        del content["digests"][name]
    else:
        content["digests"][name] = damage
    index.write_text(json.dumps(content))
    assert digests(class_folders) == expected


def test_a_file_that_went_away_is_an_error(class_folders: DataConfig) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        file_digest(Path(class_folders.root) / "none.png")
