"""Several findings an image: binary cross entropy, and scores in bins as what travels."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from primia_flwr.errors import DataError
from primia_flwr.tasks.findings import BINS, SCORES
from primia_flwr.tasks.findings.counts import areas_of, binned, confusion_of, rates_of
from primia_flwr.tasks.task import LOSS, Counts, Metric, Sum, Task, mean_or

if TYPE_CHECKING:
    from torch import Tensor, nn

    from primia_flwr.config.experiment.training import TrainingConfig


class Multilabel(Task):
    """An output a finding, each by itself; a label says 1, 0, or -1 (unknown) of each, (F,) int8.

    The area (AUC) is the mean over the findings of which present and absent images are known, and
    so is balanced accuracy, at a probability of 0.5. Where there is no such finding, both are 0.5.
    """

    name = "multilabel"
    metrics = (
        Metric(LOSS, "loss", 0, float("inf"), higher_is_better=False),
        Metric("auc", "mean AUC", 0, 1),
        Metric("balanced_accuracy", "balanced accuracy", 0, 1),
    )
    objective = "auc"
    judged_by = "primia_flwr.tasks.findings.judge"
    loss_words = "binary cross-entropy of known labels"
    several = True

    def sums(self, outputs: int) -> tuple[Sum, ...]:
        """Return, of each finding, the absent and the present images by bins of the logit."""
        return (Sum(SCORES, outputs * 2 * BINS, "counts of scores by label"),)

    def label_sum(self, outputs: int) -> Sum:
        """Return the images in which each finding is present, is absent, and all images."""
        return Sum("label-counts", 2 * outputs + 1, "training images by finding, and in all")

    def label_names(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return what the counts of labels count."""
        return (*(f"{n}: present" for n in names), *(f"{n}: absent" for n in names), "images")

    def labelled(self, label_counts: Sequence[float]) -> float:
        """Return the images in all."""
        return label_counts[-1]

    def check(self, counts: Mapping[str, Sequence[float]], examples: float) -> str:
        """Say that a finding is known of more images than there are, or of none at all."""
        scores = np.asarray(counts.get(SCORES, ()), np.float64).reshape(-1, 2 * BINS)
        most, total = scores.sum(axis=1).max(initial=0), scores.sum()
        if most > examples:
            return f"{SCORES} counts {most:g} images of a finding, not {examples:g} or fewer"
        if total < examples:
            return f"{SCORES} counts {total:g} labels, not one or more of {examples:g} images"
        return ""

    def figures(self, counts: Counts) -> dict[str, float]:
        """Return the mean AUC and balanced accuracy."""
        scores = counts[SCORES].reshape(-1, 2, BINS)
        sensitivity, specificity = rates_of(confusion_of(scores))
        return {
            "auc": mean_or(areas_of(scores)[0], 0.5),
            "balanced_accuracy": mean_or((sensitivity + specificity) / 2, 0.5),
        }

    def loss(
        self, cfg: "TrainingConfig", label_weights: Sequence[float] | None = None
    ) -> "nn.Module":
        """Return binary cross entropy over known labels, with weights and label smoothing."""
        from primia_flwr.tasks.findings.loss import FindingsLoss

        return FindingsLoss(weights=label_weights, label_smoothing=cfg.label_smoothing)

    def unit_loss(self, cfg: "TrainingConfig") -> "Callable[..., Tensor]":
        """Return the loss of each image."""
        from primia_flwr.tasks.findings.loss import unit_losses

        return partial(unit_losses, label_smoothing=cfg.label_smoothing)

    def label_weights(self, label_counts: Sequence[float]) -> tuple[float, ...]:
        """Return weights that make both labels of a finding count alike: n / (2 n_k) of n known.

        Their mean over the known labels of a finding is 1; where one label is missing, both are.

        Raises
        ------
        DataError
            If a count is negative or there are no images.
        """
        if not self.labelled(label_counts) or any(count < 0 for count in label_counts):
            raise DataError(
                f"label counts {list(label_counts)}; expected counts of at least 0 and images; "
                "check the findings of the data"
            )
        findings = len(label_counts) // 2
        pairs = [(label_counts[k], label_counts[findings + k]) for k in range(findings)]
        return tuple(
            sum(pair) / (2 * pair[side]) if min(pair) else 1.0 for side in (0, 1) for pair in pairs
        )

    def counted_as(self, labels: "Tensor") -> "Tensor":
        """Return the first finding that each image shows, or their number where it shows none."""
        import torch

        present = labels == 1
        first = present.int().argmax(dim=1)
        return torch.where(present.any(dim=1), first, labels.shape[1])

    def label_rows(self, labels: "Tensor", outputs: int) -> "Tensor":
        """Return what is present, what is absent, and 1 of each image, (N, 2 F + 1)."""
        import torch

        one = torch.ones(len(labels), 1, dtype=torch.bool)
        return torch.cat([labels == 1, labels == 0, one.to(labels.device)], dim=1).long()

    def row_norm(self, outputs: int) -> float:
        """Return that of an image of which every finding is known."""
        return float((outputs + 1) ** 0.5)

    def soft(self, labels: "Tensor", outputs: int) -> "Tensor":
        """Return shares of present and of absent, (N, 2 F)."""
        from primia_flwr.tasks.findings.loss import shares_of

        return shares_of(labels, outputs)

    def measure(self, logits: "Tensor", labels: "Tensor") -> tuple[float, Counts]:
        """Return the summed loss of the images, and their scores in bins."""
        from primia_flwr.tasks.findings.loss import unit_losses

        loss = float(unit_losses(logits, labels).sum())
        return loss, {SCORES: binned(logits.numpy(), labels.numpy()).ravel()}

    def probabilities(self, logits: "Tensor") -> "Tensor":
        """Return the probability of each finding, (N, F)."""
        return logits.sigmoid()

    def mixed(self, logits: "Tensor", weights: "Tensor") -> "Tensor":
        """Return the logits of the weighted mean of probabilities, each finding by itself."""
        from torch.nn import functional

        shares = weights.log().view(-1, 1, 1)
        there = (functional.logsigmoid(logits) + shares).logsumexp(dim=0)
        return there - (functional.logsigmoid(-logits) + shares).logsumexp(dim=0)


TASK = Multilabel()
