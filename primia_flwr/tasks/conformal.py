"""One class an image, and what sets of classes are made from that hold the true one.

Beside the confusion matrix a histogram travels: of one validation image of each patient, how small
the probability of its true class was. Sums over sites of it give the threshold of split conformal
prediction; `primia_flwr.statistics.conformal` makes sets with it.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from primia_flwr.tasks.classes import CONFUSION, SET_SCORES
from primia_flwr.tasks.classification import Classification
from primia_flwr.tasks.task import Counts, Sum

if TYPE_CHECKING:
    from torch import Tensor

_BINS = 200


class ConformalClassification(Classification):
    """A classification whose validation also counts scores, of one image a patient.

    The score of an image is 1 less the probability of its true class. `SET_SCORES` counts them by
    class, in bins ((j, j + 1] / bins) of equal width; 0 lies in the first.
    """

    name = "conformal"
    counts_patients = True

    def sums(self, outputs: int) -> tuple[Sum, ...]:
        """Return the confusion matrix, and the histogram of each class after the other."""
        words = "scores of one image a patient"
        return (*super().sums(outputs), Sum(SET_SCORES, outputs * _BINS, words))

    def check(self, counts: Mapping[str, Sequence[float]], examples: float) -> str:
        """Say that there are more scores than images, of all or of a class."""
        wrong = super().check(counts, examples)
        if wrong or SET_SCORES not in counts:
            return wrong
        scores, matrix = counts[SET_SCORES], counts.get(CONFUSION, ())
        classes = len(scores) // _BINS
        for k in range(classes):
            found = sum(scores[k * _BINS : (k + 1) * _BINS])
            images = sum(matrix[k * classes : (k + 1) * classes])
            if found > images:
                return f"{SET_SCORES} counts {found:g} patients of class {k}, of {images:g} images"
        return ""

    def measure_patients(self, logits: "Tensor", labels: "Tensor") -> Counts:
        """Return the histogram of the scores of images of different patients."""
        import torch

        outputs = logits.shape[1]
        own = self.probabilities(logits).gather(1, labels[:, None])[:, 0]
        bins = ((1 - own) * _BINS).ceil().long().sub(1).clamp(0, _BINS - 1)
        return {
            SET_SCORES: torch.bincount(labels * _BINS + bins, minlength=outputs * _BINS).numpy()
        }


TASK = ConformalClassification()
