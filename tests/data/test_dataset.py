from __future__ import annotations

import errno
import multiprocessing
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from primia_flwr.config.experiment.data import DataConfig, PartitionConfig, with_absolute_paths
from primia_flwr.data.dataset import (
    LabelledImages,
    deal_sites,
    load_images,
    load_own_site,
    load_pooled,
    load_site,
    load_test,
)
from primia_flwr.data.files import store
from primia_flwr.data.files.images import decode, resize
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.errors import ConfigError, DataError
from tests.data.everything import load_all

WriteImage = Callable[..., Path]


def test_pixels_labels_files_and_patients_belong_together(class_folders: DataConfig) -> None:
    data = load_all(class_folders, seed=1)
    assert data.images.shape == (24, 1, 16, 16)
    assert data.images.dtype == torch.uint8
    for row, path in enumerate(data.files):
        pixels = resize(decode(Path(class_folders.root) / path), 16, mode="squash", channels=1)
        assert np.array_equal(data.images[row].numpy(), pixels)
        assert data.classes[int(data.labels[row])] == path.split("/")[0]
        assert data.patients[row] == path.split("/")[1]
    part = data.select([5, 2])
    assert part.files == (data.files[5], data.files[2])
    assert torch.equal(part.images[1], data.images[2])
    assert data.label_counts() == [12, 12]


def test_the_order_of_the_sites_names_does_not_matter(class_folders: DataConfig) -> None:
    def dealt(*names: str) -> dict[str, tuple[str, ...]]:
        sites = deal_sites(class_folders, seed=1, num_sites=len(names), site_names=names)
        opened = [sites.open(index) for index in range(len(names))]
        assert [site.name for site in opened] == list(names)
        return {site.name: site.train.files for site in opened}

    first = dealt("site-2", "site-10")
    assert first == dealt("site-10", "site-2")
    unnamed = load_site(class_folders, seed=1, site_index=0, num_sites=2)
    assert unnamed.train.files == first["site-2"]  # which comes before site-10


def test_files_are_decoded_once(class_folders: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_site(class_folders, seed=1, site_index=0, num_sites=2)
    monkeypatch.setattr(store, "decode", lambda *a, **k: pytest.fail("decoded again"))
    again = load_site(class_folders, seed=1, site_index=0, num_sites=2)
    assert torch.equal(first.train.images, again.train.images)
    load_site(class_folders, seed=1, site_index=1, num_sites=2)
    load_pooled(class_folders, seed=1, num_sites=2)
    load_test(class_folders, seed=1)


@pytest.mark.parametrize(
    "change", [{"image_size": 18}, {"channels": 3}, {"resize": "pad"}, {"touch": "file"}]
)
def test_another_way_of_decoding_or_a_changed_file_is_decoded_anew(
    class_folders: DataConfig, change: dict[str, object]
) -> None:
    load_all(class_folders, seed=1)
    if change.pop("touch", None):
        os.utime(Path(class_folders.root) / "ill" / "ill0" / "0.png", ns=(1, 1))
    load_all(replace(class_folders, **change), seed=1)
    assert len(list(Path(class_folders.cache_dir).glob("images-*"))) == 2


def test_a_damaged_cache_is_made_anew(class_folders: DataConfig) -> None:
    before = load_all(class_folders, seed=1).images.clone()
    pixels = next(Path(class_folders.cache_dir).glob("images-*/pixels.u8"))
    pixels.write_bytes(pixels.read_bytes()[:-7])
    assert torch.equal(load_all(class_folders, seed=1).images, before)
    next(Path(class_folders.cache_dir).glob("images-*/index.json")).write_text("{")
    assert torch.equal(load_all(class_folders, seed=1).images, before)


def _sum_of_all(cfg: DataConfig) -> int:
    return int(load_all(cfg, seed=1).images.to(torch.int64).sum())


def test_several_processes_at_once(class_folders: DataConfig) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        sums = pool.map(_sum_of_all, [class_folders] * 2)
    assert len(set(sums)) == 1
    assert len(list(Path(class_folders.cache_dir).glob("images-*"))) == 1
    assert not list(Path(class_folders.cache_dir).glob(".images-*-*"))


def test_unreadable_files_are_named_or_left_out(class_folders: DataConfig) -> None:
    bad = Path(class_folders.root) / "ill" / "ill3" / "1.png"
    bad.write_text("no image")
    with pytest.raises(DataError, match=r"1 unreadable file.*ill3/1.png.*skip_unreadable=true"):
        load_site(class_folders, seed=1, site_index=0, num_sites=2)
    assert not list(Path(class_folders.cache_dir).glob("images-*"))
    skipping = replace(class_folders, skip_unreadable=True)
    assert len(load_all(skipping, seed=1)) == 23
    parts = [load_site(skipping, seed=1, site_index=i, num_sites=2) for i in range(2)]
    files = [f for part in parts for f in (*part.train.files, *part.val.files)]
    assert len(files) + len(load_test(skipping, seed=1)) == 23
    assert "ill/ill3/1.png" not in files


def test_a_missing_file_of_a_manifest_is_named(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "a.png")
    (tmp_path / "m.csv").write_text("path,label\na.png,x\ngone.png,y\n")
    cfg = DataConfig(
        layout="manifest", manifest=str(tmp_path / "m.csv"), cache_dir=str(tmp_path / "c")
    )
    with pytest.raises(DataError, match=r"gone.png: cannot be opened"):
        load_all(cfg, seed=1)


def test_nothing_readable_is_an_error_even_when_skipping(class_folders: DataConfig) -> None:
    for path in Path(class_folders.root).rglob("*.png"):
        path.write_text("x")
    with pytest.raises(DataError, match=r"24 unreadable file\(s\).*and 21 more"):
        load_all(replace(class_folders, skip_unreadable=True), seed=1)


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(
    class_folders: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> object:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "in_parallel", full)
    with pytest.raises(DataError, match=r"No space left on device.*data.cache_dir"):
        load_all(class_folders, seed=1)
    assert [p for p in Path(class_folders.cache_dir).iterdir() if p.is_dir()] == []


def test_an_unwritable_cache(class_folders: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"data.cache_dir"):
        load_all(replace(class_folders, cache_dir=str(tmp_path / "file" / "cache")), seed=1)


def patients(data: LabelledImages) -> set[str]:
    return set(data.patients)


def test_sites_and_test_set_share_no_patient_and_lose_nothing(class_folders: DataConfig) -> None:
    sites = [load_site(class_folders, seed=3, site_index=i, num_sites=2) for i in range(2)]
    test = load_test(class_folders, seed=3)
    parts = [part for site in sites for part in (site.train, site.val)] + [test]
    groups = [patients(part) for part in parts]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 12
    assert sum(map(len, parts)) == 24
    assert all(min(part.label_counts()) > 0 for part in parts)
    assert [site.name for site in sites] == ["site-1", "site-2"]


def test_pooled_is_the_union_of_the_sites(class_folders: DataConfig) -> None:
    sites = [load_site(class_folders, seed=3, site_index=i, num_sites=2) for i in range(2)]
    pooled = load_pooled(class_folders, seed=3, num_sites=2)
    assert pooled.train.files == sum((site.train.files for site in sites), ())
    assert pooled.val.files == sum((site.val.files for site in sites), ())
    assert torch.equal(pooled.train.images, torch.cat([site.train.images for site in sites]))


def test_a_real_site_owns_everything_but_a_test_folder(
    tmp_path: Path, write_image: WriteImage
) -> None:
    for split, label in (("train", "a"), ("train", "b"), ("test", "a"), ("val", "b")):
        for number in range(3):
            write_image(tmp_path / "d" / split / label / f"{number}.png")
    cfg = DataConfig(layout="folder", root=str(tmp_path / "d"), cache_dir=str(tmp_path / "c"))
    own = load_own_site(cfg, seed=1, name="ulm")
    assert own.name == "ulm"
    assert sorted(own.train.files + own.val.files) == sorted(
        f"{split}/{label}/{n}.png"
        for split, label in (("train", "a"), ("train", "b"), ("val", "b"))
        for n in range(3)
    )
    assert set(load_test(cfg, seed=1).files) == {f"test/a/{n}.png" for n in range(3)}


def test_a_site_takes_its_rows_of_a_common_manifest(
    tmp_path: Path, write_image: WriteImage
) -> None:
    lines = ["path,label,patient,site"]
    for number in range(16):
        write_image(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[number % 2]},p{number},{('ulm', 'bonn')[number // 8]}")
    (tmp_path / "m.csv").write_text("\n".join(lines))
    cfg = DataConfig(
        layout="manifest",
        manifest=str(tmp_path / "m.csv"),
        cache_dir=str(tmp_path / "c"),
        test_fraction=0,
        partition=PartitionConfig(kind="manifest"),
    )
    own = load_own_site(cfg, seed=1, name="ulm")
    assert patients(own.train) | patients(own.val) == {f"p{n}" for n in range(8)}
    simulated = load_site(cfg, seed=1, site_index=0, num_sites=2, site_names=["ulm", "bonn"])
    assert simulated.train.files == own.train.files
    with pytest.raises(DataError, match="site rome is not in the manifest"):
        load_own_site(cfg, seed=1, name="rome")
    with pytest.raises(DataError, match="expected a test set"):
        load_test(cfg, seed=1)


def test_patients_in_the_test_folder_and_elsewhere(tmp_path: Path, write_image: WriteImage) -> None:
    for split in ("train", "test"):
        for label in "ab":
            for number in range(3):
                write_image(tmp_path / "d" / split / label / f"{label}{number}" / "1.png")
    cfg = DataConfig(layout="folder", root=str(tmp_path / "d"), cache_dir=str(tmp_path / "c"))
    with pytest.raises(DataError, match=r"6 patient\(s\), e.g. a0.*data.split=all"):
        load_test(cfg, seed=1)
    anew = replace(cfg, split="all")
    site = load_site(anew, seed=1, site_index=0, num_sites=1)
    assert not patients(load_test(anew, seed=1)) & (patients(site.train) | patients(site.val))


def test_one_class_only_and_a_wrong_site_index(tmp_path: Path, write_image: WriteImage) -> None:
    for number in range(4):
        write_image(tmp_path / "d" / "ill" / f"{number}.png")
    cfg = DataConfig(
        layout="folder", root=str(tmp_path / "d"), classes=["ill", "well"], cache_dir=str(tmp_path)
    )
    own = load_own_site(cfg, seed=1, name="x")  # one site of several may hold one class
    assert own.train.label_counts() == [3, 0]
    assert own.val.label_counts() == [1, 0]
    with pytest.raises(DataError, match=r"holds only the class\(es\) \['ill'\]"):
        load_site(cfg, seed=1, site_index=0, num_sites=1)
    with pytest.raises(ConfigError, match="site_index=2; expected 0 to 1"):
        load_site(cfg, seed=1, site_index=2, num_sites=2)


def test_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = with_absolute_paths(DataConfig(layout="auto", root="scans"))
    assert (cfg.root, cfg.manifest) == (str(tmp_path / "scans"), "")
    assert cfg.cache_dir == str(tmp_path / ".primia" / "cache")


def _peak_growth(root: str, count: int) -> float:
    """Peak memory while loading, above that before, as a multiple of the decoded size."""
    samples = tuple(Sample(f"{i % 8}.png", i % 2, f"p{i}") for i in range(8))
    manifest = Manifest(Path(root), ("a", "b"), samples)
    load_images(manifest, DataConfig(cache_dir=f"{root}/warm-up", image_size=512, workers=2))
    rows = tuple(Sample(f"{i}.png", i % 2, f"p{i}") for i in range(count))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cfg = DataConfig(cache_dir=f"{root}/cache", image_size=512, workers=2)
    data = load_images(replace(manifest, samples=rows), cfg)
    assert int(data.images.to(torch.uint8).max()) > 0
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (after - before) * 1024 / data.images.numel()


def test_memory_stays_near_the_size_of_the_decoded_images(tmp_path: Path) -> None:
    count = 320  # 320 images of 512 x 512: 84 MB
    rng = np.random.default_rng(0)
    for number in range(8):
        pixels = rng.integers(0, 256, (512, 512), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png", compress_level=0)
    for number in range(8, count):
        os.link(tmp_path / f"{number % 8}.png", tmp_path / f"{number}.png")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_peak_growth, (str(tmp_path), count)) < 1.2


def test_reading_the_manifest_decodes_nothing(
    class_folders: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "decode", lambda *a, **k: pytest.fail("decoded"))
    assert len(read_manifest(class_folders, seed=1)) == 24
