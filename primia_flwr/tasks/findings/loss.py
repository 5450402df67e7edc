"""Binary cross entropy over the known labels of each image: no image meets another."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class FindingsLoss(nn.Module):
    """The mean of `unit_losses` over a batch.

    `weights`: of present, then of absent labels, a number a finding.
    """

    def __init__(
        self, *, weights: Sequence[float] | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.register_buffer("weights", None if weights is None else torch.tensor(weights))
        self.weights: Tensor | None
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss; logits (N, F), targets as in `unit_losses`."""
        return unit_losses(
            logits, targets, weights=self.weights, label_smoothing=self.label_smoothing
        ).mean()


def unit_losses(
    logits: Tensor, targets: Tensor, *, weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Return the loss of each image, (N,): the mean over its known labels, 0 where it has none.

    Parameters
    ----------
    logits : Tensor
        (N, F).
    targets : Tensor
        Labels (N, F) of 1, 0 and -1 (unknown), or shares of them as `shares_of` gives.
    weights : Tensor, optional
        (2 F,), of present and then of absent labels; their mean over the known labels is 1.
    label_smoothing : float
        Share of each known label that both values get alike.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    findings = logits.shape[1]
    shares = shares_of(targets, findings).to(logits.dtype)
    known = shares[:, :findings] + shares[:, findings:]
    smoothed = shares * (1 - label_smoothing) + torch.cat([known, known], 1) * label_smoothing / 2
    costs = -functional.logsigmoid(torch.cat([logits, -logits], 1)) * smoothed
    if weights is not None:
        costs = costs * weights.to(costs.dtype)
    total = known.sum(dim=1)
    return costs.sum(dim=1) / torch.where(total > 0, total, 1.0)


def shares_of(targets: Tensor, findings: int) -> Tensor:
    """Return labels (N, F) as shares of present and of absent, (N, 2 F) float32; shares as are.

    Of an unknown label both are 0.
    """
    if targets.shape[1] == 2 * findings:
        return targets
    return torch.cat([targets == 1, targets == 0], dim=1).float()
