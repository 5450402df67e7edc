"""Cases: what a model is judged on, an image, or all images of a study."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Cases:
    """N images in C cases: the case of each image, `of` (N,), and the first image of each.

    `first`: (C,) rows, ascending. Both int64.
    """

    of: Tensor
    first: Tensor

    def __len__(self) -> int:
        return len(self.first)

    @property
    def is_each_image(self) -> bool:
        """Whether each image is a case of its own."""
        return len(self.first) == len(self.of)

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the mean outputs of each case (C, ...), of those of the images (N, ...)."""
        if self.is_each_image:
            return outputs
        sums = outputs.new_zeros(len(self), *outputs.shape[1:]).index_add_(0, self.of, outputs)
        counts = torch.bincount(self.of).to(outputs.dtype)
        return sums / counts.view(-1, *[1] * (outputs.dim() - 1))

    def known(self, labels: Tensor) -> Tensor:
        """Return the labels of each case, of which an unknown one (-1) is known by any image."""
        if self.is_each_image:
            return labels
        index = self.of.view(-1, *[1] * (labels.dim() - 1)).expand_as(labels)
        none = labels.new_full((len(self), *labels.shape[1:]), -1)
        return none.scatter_reduce(0, index, labels, "amax")


def cases_of(names: Sequence[str]) -> Cases:
    """Return the cases of images of which those of one name are one, in order of their firsts."""
    places: dict[str, int] = {}
    first: list[int] = []
    of = []
    for row, name in enumerate(names):
        if name not in places:
            places[name] = len(first)
            first.append(row)
        of.append(places[name])
    return Cases(torch.tensor(of, dtype=torch.int64), torch.tensor(first, dtype=torch.int64))
