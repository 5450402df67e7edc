"""What one site computes in one round: which steps, of which epoch, with which images.

Everything follows from the round's number and the site's image count, nothing from what
happened before: a site that stopped early, was lost or joins late is where the others are.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.training.device import derive_seed


@dataclass(frozen=True)
class LocalPlan:
    """The steps of one round at one site.

    `start_step`: steps planned in the rounds before. `total_steps`: steps planned in all
    rounds. The round ends after `max_epochs` passes over the images or `max_batches` batches,
    whichever comes first; one of the two must be given.
    """

    start_step: int
    total_steps: int
    max_epochs: int | None = None
    max_batches: int | None = None

    def __post_init__(self) -> None:
        if self.max_epochs is None and self.max_batches is None:
            raise ValueError("a LocalPlan needs max_epochs or max_batches")

    def num_batches(self, batches_an_epoch: int) -> int:
        """Return the batches of this round at a site with that many batches an epoch."""
        bounds = [] if self.max_batches is None else [self.max_batches]
        if self.max_epochs is not None:
            bounds.append(self.max_epochs * batches_an_epoch)
        return min(bounds)


def plan_round(
    cfg: TrainingConfig, *, num_examples: int, round_number: int, num_rounds: int
) -> LocalPlan:
    """Plan round `round_number` (from 1) of `num_rounds` at a site with `num_examples` images."""
    a_round = steps_a_round(cfg, num_examples)
    by_batches = cfg.sync_every_n_batches > 0
    return LocalPlan(
        start_step=(round_number - 1) * a_round,
        total_steps=num_rounds * a_round,
        max_epochs=None if by_batches else cfg.local_epochs,
        max_batches=cfg.sync_every_n_batches if by_batches else None,
    )


def steps_a_round(cfg: TrainingConfig, num_examples: int) -> int:
    """Return the batches that a site with `num_examples` images computes in a full round."""
    if cfg.sync_every_n_batches:
        return cfg.sync_every_n_batches
    return cfg.local_epochs * batches_an_epoch(num_examples, cfg.batch_size)


def batches_an_epoch(num_examples: int, batch_size: int) -> int:
    """Return how many batches of at most `batch_size` images one epoch takes."""
    return math.ceil(num_examples / batch_size)


def epoch_batches(num_examples: int, batch_size: int, *, seed: int, epoch: int) -> list[Tensor]:
    """Shuffle an epoch and cut it into batches whose sizes differ by at most one image.

    Returns
    -------
    list of Tensor
        int64 indices of the images; together each image exactly once.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    order = torch.randperm(num_examples, generator=generator)
    return list(torch.tensor_split(order, batches_an_epoch(num_examples, batch_size)))
