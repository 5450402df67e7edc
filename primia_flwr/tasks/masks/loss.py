"""Cross entropy plus soft Dice, image by image: no image meets another, as clipping needs it.

Source: Milletari et al. 2016, V-Net (soft Dice); Isensee et al. 2018, nnU-Net (the sum of both).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

_SMOOTH = 1.0  # pixels: a class that is neither there nor called has Dice 1


class SegmentationLoss(nn.Module):
    """The mean of `unit_losses` over a batch."""

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss; logits (N, C, H, W), targets as in `unit_losses`."""
        return unit_losses(logits, targets, label_smoothing=self.label_smoothing).mean()


def unit_losses(logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return the loss of each image, (N,): mean cross entropy of its pixels, plus 1 - Dice.

    `logits`: (N, C, H, W), C at least 2. `targets`: classes (N, H, W), or shares of classes (N, C,
    H, W). `label_smoothing`: share that the cross entropy gives to all classes alike. Dice takes
    the targets as they are.

    Notes
    -----
    Dice is the mean over the classes but the first, of probabilities instead of calls, with one
    pixel added above and below.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    shares = shares_of(targets, logits.shape[1]).to(logits.dtype)
    smoothed = shares * (1 - label_smoothing) + label_smoothing / logits.shape[1]
    entropy = -(functional.log_softmax(logits, dim=1) * smoothed).sum(dim=1).mean(dim=(1, 2))
    called, true = logits.softmax(dim=1)[:, 1:], shares[:, 1:]
    overlap, size = (called * true).sum(dim=(2, 3)), (called + true).sum(dim=(2, 3))
    dice = (2 * overlap + _SMOOTH) / (size + _SMOOTH)
    return entropy + 1 - dice.mean(dim=1)


def shares_of(targets: Tensor, classes: int) -> Tensor:
    """Return classes (N, H, W) as shares (N, C, H, W) float32; shares as they are."""
    if targets.dim() == 4:
        return targets
    indices = torch.arange(classes, dtype=targets.dtype, device=targets.device)
    return (targets[:, None] == indices.view(-1, 1, 1)).float()
