from dataclasses import replace

import pytest
import torch
from torch import Tensor

from primia_flwr.config.experiment.data import (
    AugmentationConfig,
    FlipConfig,
    MixupConfig,
    SigmaConfig,
)
from primia_flwr.processes.cores import SHARE_OF_CORES
from primia_flwr.training.loader import BatchPreparation, training_batches
from primia_flwr.training.recipe import Recipe
from tests.training.tiny_training import HALF, IDENTITY, PLAIN, random_images

NOISE = AugmentationConfig(
    noise=SigmaConfig(probability=1.0, magnitude=0.1), flip=FlipConfig(horizontal=0.5)
)


def batches(
    start: int, count: int, augmentation: AugmentationConfig | None = None, workers: int = 0
) -> list[tuple[Tensor, Tensor]]:
    cfg = replace(PLAIN, batch_size=8, workers=workers)
    recipe = Recipe(cfg, HALF, seed=4, augmentation=augmentation)
    steps = range(start, start + count)
    loader = training_batches(random_images(30), recipe, steps, pin_memory=False)
    assert len(loader) == count
    return list(loader)


def test_an_epoch_has_every_image_once() -> None:
    seen = torch.cat([images for images, _ in batches(0, 4)]).flatten(1)
    expected = random_images(30).images.flatten(1)
    assert sorted(map(tuple, seen.tolist())) == sorted(map(tuple, expected.tolist()))


def test_images_keep_their_labels() -> None:
    data = random_images(30)
    known = {tuple(i.flatten().tolist()): int(n) for i, n in zip(data.images, data.labels)}  # noqa: B905
    for images, labels in batches(0, 4):
        assert [known[tuple(i.flatten().tolist())] for i in images] == labels.tolist()


def test_goes_on_within_an_epoch_where_the_last_round_stopped() -> None:
    whole = batches(0, 10, NOISE)
    parts = batches(0, 3, NOISE) + batches(3, 7, NOISE)
    for (images, labels), (again, again_labels) in zip(whole, parts, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, again_labels)


def test_workers_give_the_same_batches() -> None:
    for (images, _), (again, _) in zip(batches(2, 6, NOISE), batches(2, 6, NOISE, 2), strict=True):
        assert torch.equal(images, again)


def test_augmentation_varies_between_epochs_and_leaves_the_generator_alone() -> None:
    before = torch.get_rng_state()
    data, seen = random_images(30), []
    for epoch in (0, 1):
        images = torch.cat([i for i, _ in batches(4 * epoch, 4, NOISE)])
        assert images.dtype == torch.uint8
        assert images.shape == data.images.shape
        seen.append(sorted(map(tuple, images.flatten(1).tolist())))
    assert seen[0] != seen[1]
    assert torch.equal(before, torch.get_rng_state())


def prepare(mixup: MixupConfig | None) -> BatchPreparation:
    recipe = Recipe(PLAIN, IDENTITY, seed=1, mixup=mixup)
    return BatchPreparation(recipe, torch.device("cpu"), random_images(2))


def test_preparation_without_mixup_keeps_hard_labels() -> None:
    data = random_images(8)
    images, targets = prepare(MixupConfig(probability=0.0))(data.images, data.labels, 0)
    torch.testing.assert_close(images, data.images.float(), rtol=1e-5, atol=1e-4)
    assert torch.equal(targets, data.labels)


def test_mixup_blends_images_and_labels_alike_and_by_the_step() -> None:
    data = random_images(8)
    mixed = prepare(MixupConfig(probability=1.0, alpha=1.0))
    images, targets = mixed(data.images, data.labels, 0)
    again, _ = mixed(data.images, data.labels, 0)
    other, _ = mixed(data.images, data.labels, 1)
    assert torch.equal(images, again)
    assert not torch.equal(images, other)
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    torch.testing.assert_close(
        images.mean(), data.images.float().mean(), rtol=1e-4, atol=1e-3
    )  # a blend with a permutation keeps the mean


def test_preparation_lays_out_channels_last() -> None:
    cfg = replace(PLAIN, channels_last=True)
    colour = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    prepare = BatchPreparation(Recipe(cfg, HALF, seed=1), torch.device("cpu"), random_images(2))
    images, _ = prepare(colour, torch.zeros(2).long(), 0)
    assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("asked", "share", "cores", "expected"),
    [
        (8, "", 4, 4),  # a real site: what the machine has
        (8, "", 64, 8),
        (8, "2", 64, 2),  # a simulated site's part of it
        (8, "1", 2, 1),
        (0, "4", 4, 0),
        (8, "none", 4, 4),  # no number: as if nobody had told
        (8, "0", 4, 4),
    ],
)
def test_no_more_processes_than_a_sites_cores(
    asked: int, share: str, cores: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARE_OF_CORES, share)
    monkeypatch.setattr("primia_flwr.processes.cores.available_cores", lambda: cores)
    recipe = Recipe(replace(PLAIN, workers=asked), HALF, seed=4)
    loader = training_batches(random_images(8), recipe, range(1), pin_memory=False)
    assert loader.num_workers == expected
