"""A class for each pixel: cross entropy and soft Dice, and counts of pixels as what travels."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from primia_flwr.errors import ConfigError
from primia_flwr.tasks.masks import CASES, DICE, MILLIONTHS, PIXELS
from primia_flwr.tasks.masks.counts import confusion_of, dice_of, iou_of
from primia_flwr.tasks.task import IMAGES, LOSS, Counts, Metric, Sum, Task, mean_or

if TYPE_CHECKING:
    from torch import Tensor, nn

    from primia_flwr.config.experiment.training import TrainingConfig

_MOST_PIXELS = 2048**2  # of an image


class Segmentation(Task):
    """As many outputs at each pixel as classes; a label is a mask (H, W) uint8 of their indices.

    The first class is the background. Dice is the mean over images, then over the other classes; an
    image counts for a class that is true or called in it. IoU is of all pixels together, the mean
    over classes. Where no image has another class than the background, both are 1.
    """

    name = "segmentation"
    metrics = (
        Metric(LOSS, "loss", 0, float("inf"), higher_is_better=False),
        Metric("dice", "Dice", 0, 1),
        Metric("iou", "IoU", 0, 1),
    )
    objective = "dice"
    judged_by = "primia_flwr.tasks.masks.judge"
    loss_words = "cross-entropy plus 1 - soft Dice"
    masked = True

    def sums(self, outputs: int) -> tuple[Sum, ...]:
        """Return the pixels by true and called class, and the Dice of each class but the first."""
        found = max(outputs - 1, 0)
        return (
            Sum(PIXELS, outputs**2, "counts of pixels", most=IMAGES * _MOST_PIXELS),
            Sum(DICE, found, "sums of Dice over images", most=IMAGES * MILLIONTHS),
            Sum(CASES, found, "images of each class"),
        )

    def label_sum(self, outputs: int) -> Sum:
        """Return how many images show a class, but none that stands behind it."""
        return Sum("label-counts", outputs, "training images by the last class that they show")

    def labelled(self, label_counts: Sequence[float]) -> float:
        """Return their sum: each image is counted once."""
        return sum(label_counts)

    def check(self, counts: Mapping[str, Sequence[float]], examples: float) -> str:
        """Say that the counts are not those of so many images of one size."""
        pixels, dice, cases = (counts.get(name, ()) for name in (PIXELS, DICE, CASES))
        total = sum(pixels)
        if total and not examples:
            return f"{PIXELS} counts {total:g} pixels of no image"
        if examples and (total < examples or total % examples):
            return f"{PIXELS} counts {total:g} pixels, not as many in each of {examples:g} images"
        if any(count > examples for count in cases):
            return f"{CASES} counts {max(cases):g} images, not the {examples:g} that were seen"
        if any(one > MILLIONTHS * count for one, count in zip(dice, cases, strict=True)):
            return f"{DICE} has a Dice above 1"
        return ""

    def figures(self, counts: Counts) -> dict[str, float]:
        """Return Dice and IoU, each the mean over the classes that there are."""
        flat = counts[PIXELS]
        side = round(flat.size**0.5)
        with np.errstate(invalid="ignore"):
            dice = counts[DICE] / (MILLIONTHS * counts[CASES])
        iou = iou_of(flat.reshape(side, side))[1:]
        return {"dice": mean_or(dice, 1.0), "iou": mean_or(iou, 1.0)}

    def loss(
        self, cfg: "TrainingConfig", label_weights: Sequence[float] | None = None
    ) -> "nn.Module":
        """Return cross entropy with label smoothing, plus 1 - soft Dice.

        Raises
        ------
        ConfigError
            If classes are to be weighted, which Dice does by itself.
        """
        from primia_flwr.tasks.masks.loss import SegmentationLoss

        if cfg.class_weights != "none":
            raise ConfigError(
                f"training.class_weights={cfg.class_weights} with data.task={self.name}; expected "
                "none: Dice in the loss counts every class alike; set training.class_weights=none"
            )
        return SegmentationLoss(label_smoothing=cfg.label_smoothing)

    def unit_loss(self, cfg: "TrainingConfig") -> "Callable[..., Tensor]":
        """Return the loss of each image."""
        from primia_flwr.tasks.masks.loss import unit_losses

        return partial(unit_losses, label_smoothing=cfg.label_smoothing)

    def label_weights(self, label_counts: Sequence[float]) -> tuple[float, ...]:
        """Return 1 for every class: the loss weights none."""
        return (1.0,) * len(label_counts)

    def counted_as(self, labels: "Tensor") -> "Tensor":
        """Return the last class that each mask shows."""
        return labels.flatten(1).amax(dim=1).long()

    def soft(self, labels: "Tensor", outputs: int) -> "Tensor":
        """Return shares of classes (N, C, H, W)."""
        from primia_flwr.tasks.masks.loss import shares_of

        return shares_of(labels, outputs)

    def measure(self, logits: "Tensor", labels: "Tensor") -> tuple[float, Counts]:
        """Return the summed loss, the pixels by class, and Dice of the images."""
        from primia_flwr.tasks.masks.loss import unit_losses

        confusion = confusion_of(
            labels.numpy(), self.probabilities(logits).numpy(), logits.shape[1]
        )
        dice = dice_of(confusion)[:, 1:]
        return float(unit_losses(logits, labels).sum()), {
            PIXELS: confusion.sum(axis=0).ravel(),
            DICE: np.rint(np.nan_to_num(dice) * MILLIONTHS).sum(axis=0).astype(np.int64),
            CASES: (~np.isnan(dice)).sum(axis=0).astype(np.int64),
        }

    def probabilities(self, logits: "Tensor") -> "Tensor":
        """Return the class that is called at each pixel, (N, H, W) uint8."""
        import torch

        return logits.argmax(dim=1).to(torch.uint8)


TASK = Segmentation()
