"""The labels of a batch, from the gradient of the last layer.

One image: the gradient of the cross entropy by the last bias is p - e_y, negative at the label
alone. A batch of B: it is mean(p) - counts / B, so counts = B (mean(p) - g); mean(p) is what the
model says of candidate images, which for a model that is not yet trained hardly depends on them.

Sources: Zhao et al. 2020 (iDLG), section 3; for batches Wainakh et al. 2022 (LLG), section 4.
"""

import torch
from torch import Tensor

from primia_flwr.errors import DataError


def label_counts(bias_gradient: Tensor, mean_probabilities: Tensor, batch_size: int) -> list[int]:
    """Return how many images of the batch have each class.

    Parameters
    ----------
    bias_gradient : Tensor
        (classes,), of the mean loss by the last layer's bias, to scale.
    mean_probabilities : Tensor
        (classes,), the model's mean softmax on candidate images.
    batch_size : int
        At least 1.

    Returns
    -------
    list of int
        At least 0, adding up to `batch_size`: the real-valued counts rounded down, the rest
        given to the largest remainders.

    Raises
    ------
    DataError
        If the gradient has NaN or infinite entries.
    """
    if not bool(bias_gradient.isfinite().all()):
        raise DataError(
            "the gradient of the last layer has NaN or infinite entries; expected finite numbers: "
            "record a run that did not diverge"
        )
    if batch_size == 1:
        label = int(bias_gradient.argmin())
        return [int(index == label) for index in range(len(bias_gradient))]
    raw = (batch_size * (mean_probabilities - bias_gradient)).clamp(min=0).double()
    shares = raw / raw.sum() if float(raw.sum()) > 0 else torch.full_like(raw, 1 / len(raw))
    raw = batch_size * shares
    counts = raw.floor()
    left = batch_size - int(counts.sum())
    for index in (raw - counts).argsort(descending=True)[: max(left, 0)].tolist():
        counts[index] += 1
    return [int(n) for n in counts]


def as_labels(counts: list[int]) -> Tensor:
    """Return (B,) int64: each class as often as counted, in the order of the classes."""
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
