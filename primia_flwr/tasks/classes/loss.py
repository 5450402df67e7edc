"""Cross entropy with class weights, label smoothing, and hard or soft targets."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class ClassificationLoss(nn.Module):
    """Weighted mean of the cross entropy over a batch.

    With class weights w the mean is sum_i w_i loss_i / sum_i w_i, where w_i is the weight of
    image i's class (for a soft target: the mixture of the weights). A one-hot soft target
    gives the same number as the hard label.
    """

    def __init__(
        self, *, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights)
        self.class_weights: Tensor | None
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss; logits (N, C), targets int64 (N,) or probabilities (N, C)."""
        logits = logits.float()
        if targets.dtype == torch.int64 or self.class_weights is None:
            return functional.cross_entropy(
                logits, targets, weight=self.class_weights, label_smoothing=self.label_smoothing
            )
        total = functional.cross_entropy(
            logits,
            targets,
            weight=self.class_weights,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        return total / (targets @ self.class_weights).sum()
