"""From a site's images in memory to shuffled, augmented batches on the way to the device.

The one place where training touches the data. Order and augmentation of an image depend on
(seed, epoch, image) alone: not on the number of worker processes, and not on where the last
round stopped.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from primia_flwr.data.dataset import LabelledImages
from primia_flwr.data.transforms import build_augmentation, move_both
from primia_flwr.data.transforms import mixup as mix
from primia_flwr.processes.cores import own_cores
from primia_flwr.training.device import derive_seed
from primia_flwr.training.plan import batches_an_epoch, epoch_batches
from primia_flwr.training.recipe import Recipe

_Augment = Callable[..., Any]
_AHEAD = 4  # batches that each worker prepares ahead


@dataclass(frozen=True)
class _BatchKey:
    """Names one batch: the epoch, and the int64 indices of its images."""

    epoch: int
    indices: Tensor


class _AugmentedImages(Dataset[tuple[Tensor, Tensor]]):
    """Fetches whole batches: images (B, C, H, W) uint8 or float in [0, 1], and their labels."""

    def __init__(self, data: LabelledImages, augment: _Augment | None, seed: int) -> None:
        self._images = data.images
        self._labels = data.labels
        self._augment = augment
        self._seed = seed

    def __getitems__(self, key: _BatchKey) -> tuple[Tensor, Tensor]:
        """Return one batch; PyTorch's random state is left as it was."""
        images, labels = self._images[key.indices], self._labels[key.indices]
        if self._augment is None:
            return images, labels
        rows = key.indices.tolist()
        seeds = [derive_seed(self._seed, "augment", key.epoch, index) for index in rows]
        return augmented(images, labels, seeds, self._augment)


def augmented(
    images: Tensor, labels: Tensor, seeds: Sequence[int], augment: _Augment
) -> tuple[Tensor, Tensor]:
    """Change each image (N, C, H, W) by its own seed; PyTorch's random state stays as it was.

    Labels that are masks, (N, H, W), are moved with the images; others stay as they are.
    """
    masked = labels.dim() == 3
    varied, moved = [], []
    with torch.random.fork_rng(devices=[]):
        for image, label, seed in zip(images, labels, seeds, strict=True):
            torch.default_generator.manual_seed(seed)
            if masked:
                image, mask = move_both(augment, image, label)
                moved.append(mask)
            else:
                image = augment(image)
            varied.append(image)
    return torch.stack(varied), torch.stack(moved) if masked else labels


class _Keys:
    """The batches of a round, in order, computed epoch by epoch."""

    def __init__(self, num_examples: int, batch_size: int, seed: int, steps: range) -> None:
        self._num_examples = num_examples
        self._batch_size = batch_size
        self._seed = seed
        self._steps = steps

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[_BatchKey]:
        a_epoch = batches_an_epoch(self._num_examples, self._batch_size)
        epoch, batches = -1, list[Tensor]()
        for step in self._steps:
            if step // a_epoch != epoch:
                epoch = step // a_epoch
                batches = epoch_batches(
                    self._num_examples, self._batch_size, seed=self._seed, epoch=epoch
                )
            yield _BatchKey(epoch, batches[step % a_epoch])


def training_batches(
    data: LabelledImages, recipe: Recipe, steps: range, *, pin_memory: bool
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return the batches of one round, one iteration over all its epochs.

    Parameters
    ----------
    data : LabelledImages
        The site's training images.
    recipe : Recipe
        Batch size, seed, augmentation, and the processes that read (0: this one); as many as the
        site has cores at most.
    steps : range
        The global steps of this round; the epoch goes on where the step before ended.
    pin_memory : bool
        Put the batches into page-locked memory, for a GPU.
    """
    cfg, seed = recipe.training, recipe.seed
    workers = min(cfg.workers, own_cores())
    augment = None if recipe.augmentation is None else build_augmentation(recipe.augmentation)
    keys: Any = _Keys(len(data), cfg.batch_size, seed, steps)
    return DataLoader(
        _AugmentedImages(data, augment, seed),
        batch_sampler=keys,
        num_workers=workers,
        collate_fn=_as_is,
        pin_memory=pin_memory,
        prefetch_factor=_AHEAD if workers else None,
        generator=torch.Generator().manual_seed(derive_seed(seed, "workers", steps.start)),
    )


def _as_is(batch: Any) -> Any:
    return batch


class BatchPreparation:
    """Bring one batch to the device: normalised images, hard or mixed targets."""

    def __init__(self, recipe: Recipe, device: torch.device, data: LabelledImages) -> None:
        last = recipe.training.channels_last
        self._layout = torch.channels_last if last else torch.contiguous_format
        self._normalisation = recipe.normalisation
        mixup = recipe.mixup
        self._mixup = mixup if mixup is not None and mixup.probability > 0 else None
        self.device = device
        self._seed = recipe.seed
        self._task, self._outputs = data.task, len(data.classes)

    def __call__(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return float images (B, C, H, W), and labels or what `task.soft` mixes of them."""
        images = self._normalisation.apply(images.to(self.device, non_blocking=True))
        images = images.to(memory_format=self._layout)
        labels = labels.to(self.device, non_blocking=True)
        if self._mixup is None:
            return images, labels
        generator = torch.Generator().manual_seed(derive_seed(self._seed, "mixup", step))
        targets = self._task.soft(labels, self._outputs)
        return mix(images, targets, self._mixup.alpha, self._mixup.probability, generator)
