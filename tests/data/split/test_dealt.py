"""A simulated site costs what its own images cost, however many others there are."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from primia_flwr.config.experiment.data import DataConfig, SyntheticConfig
from primia_flwr.data import dataset
from primia_flwr.data.dataset import deal_sites, load_site
from primia_flwr.data.files import listing, same_picture, store

SITES = 20


@pytest.fixture(scope="module")
def cfg(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    return DataConfig(
        layout="synthetic",
        cache_dir=str(tmp_path_factory.mktemp("cache")),
        image_size=16,
        synthetic=SyntheticConfig(patients=10 * SITES),
    )


def test_a_site_opens_its_own_images_alone(
    cfg: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    dealt = deal_sites(cfg, seed=1, num_sites=SITES)
    for module, name in (
        (store, "_stamp"),
        (store, "_read_index"),
        (listing, "file_digest"),
        (same_picture, "_digest"),
        (dataset, "read_manifest"),
        (dataset, "named_sites"),
    ):
        monkeypatch.setattr(module, name, lambda *_, called=name, **__: pytest.fail(called))
    read = list[str]()
    rows = store.Store.rows
    monkeypatch.setattr(store.Store, "rows", lambda self, p: read.extend(p) or rows(self, p))
    for index, (name, part) in enumerate(dealt.sites.items()):
        read.clear()
        found = dealt.open(index)
        assert found.name == name
        assert sorted(read) == sorted(sample.path for sample in part.samples)


def test_it_is_the_site_that_is_loaded_alone(cfg: DataConfig) -> None:
    dealt = deal_sites(cfg, seed=1, num_sites=SITES)
    for index in (0, 7, SITES - 1):
        alone = load_site(cfg, seed=1, site_index=index, num_sites=SITES)
        found = dealt.open(index)
        assert (found.train.files, found.val.files) == (alone.train.files, alone.val.files)
        assert torch.equal(found.train.images, alone.train.images)


def test_a_store_on_disk_knows_its_pictures_and_hashes_none(
    cfg: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_site(cfg, seed=1, site_index=0, num_sites=SITES)
    monkeypatch.setattr(same_picture, "_digest", lambda _: pytest.fail("hashed again"))
    load_site(cfg, seed=1, site_index=3, num_sites=SITES)


@pytest.mark.parametrize("known", [None, "0" * 63, "pixels " + "g" * 64, 7])
def test_a_store_without_them_deals_alike(cfg: DataConfig, tmp_path: Path, known: object) -> None:
    own = replace(cfg, cache_dir=str(tmp_path), synthetic=SyntheticConfig(patients=12))
    first = load_site(own, seed=1, site_index=1, num_sites=2)
    (index,) = tmp_path.glob("images-*/index.json")
    content = json.loads(index.read_text())
    if known is None:
        del content["pictures"]
    else:
        content["pictures"][next(iter(content["pictures"]))] = known
    index.write_text(json.dumps(content))
    assert load_site(own, seed=1, site_index=1, num_sites=2).train.files == first.train.files
