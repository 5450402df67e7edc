"""One class an image: cross entropy, and the confusion matrix as what travels."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from primia_flwr.errors import DataError
from primia_flwr.tasks.classes import CONFUSION
from primia_flwr.tasks.task import LOSS, Counts, Metric, Sum, Task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from primia_flwr.config.experiment.training import TrainingConfig


class Classification(Task):
    """As many outputs as classes; the label of an image is the index of its class, int64."""

    name = "classification"
    metrics = (
        Metric(LOSS, "loss", 0, float("inf"), higher_is_better=False),
        Metric("accuracy", "accuracy", 0, 1),
        Metric("balanced_accuracy", "balanced accuracy", 0, 1),
        Metric("mcc", "MCC", -1, 1),
    )
    objective = "mcc"
    judged_by = "primia_flwr.tasks.classes.judge"
    loss_words = "cross-entropy"
    explained = True

    def sums(self, outputs: int) -> tuple[Sum, ...]:
        """Return the confusion matrix, row by row: rows are the true classes."""
        return (Sum(CONFUSION, outputs**2, "confusion counts"),)

    def label_sum(self, outputs: int) -> Sum:
        """Return the images of each class."""
        return Sum("label-counts", outputs, "training images of each class")

    def labelled(self, label_counts: Sequence[float]) -> float:
        """Return their sum: an image has one class."""
        return sum(label_counts)

    def check(self, counts: Mapping[str, Sequence[float]], examples: float) -> str:
        """Say that the matrix counts other images than were validated."""
        counted = sum(counts.get(CONFUSION, ()))
        if counted == examples:
            return ""
        return f"{CONFUSION} counts {counted:g} images, not the {examples:g} that were seen"

    def figures(self, counts: Counts) -> dict[str, float]:
        """Return accuracy, balanced accuracy over the classes that have images, and MCC."""
        flat = counts[CONFUSION]
        side = round(flat.size**0.5)
        matrix = flat.reshape(side, side)
        images = matrix.sum(axis=1)
        present = images > 0
        return {
            "accuracy": float(np.trace(matrix)) / int(matrix.sum()),
            "balanced_accuracy": float(np.mean(np.diag(matrix)[present] / images[present])),
            "mcc": _matthews(matrix),
        }

    def loss(
        self, cfg: "TrainingConfig", label_weights: Sequence[float] | None = None
    ) -> "nn.Module":
        """Return cross entropy with class weights and label smoothing."""
        from primia_flwr.tasks.classes.loss import ClassificationLoss

        return ClassificationLoss(class_weights=label_weights, label_smoothing=cfg.label_smoothing)

    def unit_loss(self, cfg: "TrainingConfig") -> "Callable[..., Tensor]":
        """Return the cross entropy of each image."""
        from torch.nn import functional

        return partial(
            functional.cross_entropy, reduction="none", label_smoothing=cfg.label_smoothing
        )

    def label_weights(self, label_counts: Sequence[float]) -> tuple[float, ...]:
        """Return weights that make every class count alike: n / (K n_k) with K classes present.

        Their mean over the images is 1; a class without images has weight 0.

        Raises
        ------
        DataError
            If a count is negative or all are 0.
        """
        total, present = sum(label_counts), sum(count > 0 for count in label_counts)
        if not present or any(count < 0 for count in label_counts):
            raise DataError(
                f"class counts {list(label_counts)}; expected counts of at least 0 and one above "
                "0; check the class names of the data"
            )
        return tuple(total / (present * n) if n > 0 else 0.0 for n in label_counts)

    def soft(self, labels: "Tensor", outputs: int) -> "Tensor":
        """Return one-hot rows (N, C)."""
        from torch.nn import functional

        return functional.one_hot(labels, outputs).float()

    def measure(self, logits: "Tensor", labels: "Tensor") -> tuple[float, Counts]:
        """Return the summed cross entropy in nats and the confusion matrix."""
        import torch
        from torch.nn import functional

        classes = logits.shape[1]
        cells = labels * classes + logits.argmax(dim=1)
        confusion = torch.bincount(cells, minlength=classes * classes).numpy()
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        return float(loss), {CONFUSION: confusion}

    def probabilities(self, logits: "Tensor") -> "Tensor":
        """Return softmax probabilities (N, C)."""
        return logits.softmax(dim=1)


def _matthews(matrix: npt.NDArray[Any]) -> float:
    """Return the Matthews correlation in [-1, 1]; 0 if all images or predictions are alike.

    Source: Gorodkin 2004, the R_K statistic.
    """
    confusion = matrix.astype(np.float64)
    true, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    total = confusion.sum()
    covariance = np.trace(confusion) * total - true @ predicted
    variances = (total**2 - true @ true) * (total**2 - predicted @ predicted)
    return float(covariance / np.sqrt(variances)) if variances > 0 else 0.0


TASK = Classification()
