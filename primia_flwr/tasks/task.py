"""The seam of a task, and what a model was measured to be at one: sums that add up over sites."""

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from primia_flwr.errors import ProtocolError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from primia_flwr.config.experiment.training import TrainingConfig

Counts = Mapping[str, npt.NDArray[np.int64]]

IMAGES = 1e9
"""That a site holds, at most."""

LOSS = "loss"
_OBJECTIVE = "objective"  # a monitor: whichever metric is the objective of the task


@dataclass(frozen=True)
class Sum:
    """Whole numbers of at least 0 that travel: `size` of them under a name; `words` for people.

    `most`: that one site sends of each.
    """

    name: str
    size: int
    words: str
    most: float = IMAGES


@dataclass(frozen=True)
class Metric:
    """One figure computed from sums: its key, its words, its range, and which way is better."""

    name: str
    words: str
    lowest: float
    highest: float
    higher_is_better: bool = True

    @property
    def title(self) -> str:
        """The words as a heading."""
        return self.words[:1].upper() + self.words[1:]

    @property
    def column(self) -> str:
        """The key of a validation in history.csv, in events and in what searches find."""
        return f"val_{self.name}"

    @property
    def best_words(self) -> str:
        """The words of the best of several values."""
        return f"{'highest' if self.higher_is_better else 'lowest'} validation {self.words}"

    def rising(self, value: float) -> float:
        """Return a value such that of two the higher one is better."""
        return value if self.higher_is_better else -value

    def best(self, values: Iterable[float]) -> float:
        """Return the best of some values."""
        return max(values) if self.higher_is_better else min(values)

    def improves(self, value: float, than: float | None, min_delta: float = 0.0) -> bool:
        """Tell whether a value improves on another by more than `min_delta`; NaN never does."""
        if math.isnan(value):
            return False
        return than is None or self.rising(value - than) > min_delta


class Task(ABC):
    """What a label is, how it is learned, what travels of it, and how it is judged.

    `outputs` is the width of the model's last layer; a subclass says what it has to do with the
    names in the data. `name`: its file's. `metrics`: by which it is judged from sums, the loss
    among them. `objective`: the one that searches and early stopping look at if nothing else is
    said. `judged_by`: the module with its `JUDGE`. `loss_words`: what the plain loss is.
    `explained`: whether a map can show what spoke for the class that a model called. `masked`:
    whether a label is a mask beside the image, with a class for each pixel, which geometry moves
    with it; a model then has the outputs at each pixel. `counts_patients`: whether something is
    counted of one image a patient. `several`: whether a label says of each
    output by itself whether it is there, (N, outputs) int8: 1, 0, or -1 where that is unknown.
    """

    name: str
    metrics: tuple[Metric, ...]
    objective: str
    judged_by: str
    loss_words: str = ""
    explained: bool = False
    masked: bool = False
    counts_patients: bool = False
    several: bool = False

    # --- Sums that travel; without PyTorch ---

    @abstractmethod
    def sums(self, outputs: int) -> tuple[Sum, ...]:
        """Return what travels of an evaluation beside its loss and its number of images."""

    @abstractmethod
    def label_sum(self, outputs: int) -> Sum:
        """Return what travels of a site's training labels, whatever its name, as `label-counts`."""

    @abstractmethod
    def labelled(self, label_counts: Sequence[float]) -> float:
        """Return how many images the counts of labels are of."""

    @abstractmethod
    def check(self, counts: Mapping[str, Sequence[float]], examples: float) -> str:
        """Return what cannot be of the counts over that many images; nothing where all can."""

    @abstractmethod
    def figures(self, counts: Counts) -> dict[str, float]:
        """Return every metric but the loss, by its name."""

    # --- Learning; with PyTorch ---

    @abstractmethod
    def loss(
        self, cfg: "TrainingConfig", label_weights: Sequence[float] | None = None
    ) -> "nn.Module":
        """Return the training loss: (logits, targets) to the batch's mean."""

    @abstractmethod
    def unit_loss(self, cfg: "TrainingConfig") -> Any:
        """Return the loss of each image of a batch by itself, as clipping needs it."""

    @abstractmethod
    def label_weights(self, label_counts: Sequence[float]) -> tuple[float, ...]:
        """Return weights under which every label counts alike."""

    def counted_as(self, labels: "Tensor") -> "Tensor":
        """Return the index under which the counts of labels count each image, (N,) int64."""
        return labels

    def label_rows(self, labels: "Tensor", outputs: int) -> "Tensor":
        """Return what each image adds to the counts of labels, (N, size of `label_sum`)."""
        from torch.nn import functional

        return functional.one_hot(self.counted_as(labels), self.label_sum(outputs).size)

    def label_names(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return what each count of labels counts, in words; `names` are those of the outputs."""
        return tuple(names)

    def row_norm(self, outputs: int) -> float:
        """Return the largest L2 norm of a row of `label_rows`."""
        return 1.0

    @abstractmethod
    def soft(self, labels: "Tensor", outputs: int) -> "Tensor":
        """Return labels as targets that can be mixed, float32."""

    @abstractmethod
    def measure(self, logits: "Tensor", labels: "Tensor") -> tuple[float, Counts]:
        """Return the sum of the plain loss over images, and the counts that travel."""

    def measure_patients(self, logits: "Tensor", labels: "Tensor") -> Counts:
        """Return more counts that travel, of images of different patients, one of each."""
        return {}

    @abstractmethod
    def probabilities(self, logits: "Tensor") -> "Tensor":
        """Return what a model's outputs mean."""

    def mixed(self, logits: "Tensor", weights: "Tensor") -> "Tensor":
        """Return the outputs that mean the weighted mean of what several models' outputs mean.

        Of softmax probabilities along the second axis of an output.

        Parameters
        ----------
        logits : Tensor
            Of K models, (K, N, C, ...).
        weights : Tensor
            K numbers above 0 that add up to 1.
        """
        shape = (-1, *[1] * (logits.dim() - 1))
        return (logits.log_softmax(dim=2) + weights.log().view(shape)).logsumexp(dim=0)

    # --- Judging and showing ---

    @property
    def judge(self) -> Any:
        """How its models are judged on test images, and how that is shown; slow to import.

        By the name of its module, because none of it belongs into the bundle that sites read.
        """
        return importlib.import_module(self.judged_by).JUDGE

    # --- What follows from these ---

    def metric(self, name: str) -> Metric:
        """Return a metric by its name, or that of the objective as `objective`."""
        wanted = self.objective if name == _OBJECTIVE else name
        return next(metric for metric in self.metrics if metric.name == wanted)

    @property
    def aim(self) -> Metric:
        """The metric that is the objective."""
        return self.metric(_OBJECTIVE)

    @property
    def counted(self) -> str:
        """What travels of an evaluation beside its loss, in words."""
        return " and ".join(found.words for found in self.sums(1))

    @property
    def scored(self) -> tuple[Metric, ...]:
        """The metrics that are no loss."""
        return tuple(metric for metric in self.metrics if metric.name != LOSS)

    @property
    def watched(self) -> tuple[Metric, ...]:
        """The loss and the objective: what is shown of every site."""
        return tuple(metric for metric in self.metrics if metric.name in (LOSS, self.objective))


@dataclass(frozen=True)
class Evaluation:
    """Sums over images, which add up over sites.

    `loss_sum`: of the plain loss, in nats. `counts`: as `task.sums` names them.
    """

    task: Task
    loss_sum: float
    num_examples: int
    counts: Counts

    def __add__(self, other: "Evaluation") -> "Evaluation":
        return Evaluation(
            self.task,
            self.loss_sum + other.loss_sum,
            self.num_examples + other.num_examples,
            {name: count + other.counts[name] for name, count in self.counts.items()},
        )

    def figures(self) -> dict[str, float]:
        """Return every metric by its name, the mean loss first."""
        return {LOSS: self.loss_sum / self.num_examples, **self.task.figures(self.counts)}

    @classmethod
    def of(
        cls, task: Task, outputs: int, loss_sum: float, examples: float, sums: Mapping[str, Any]
    ) -> "Evaluation":
        """Rebuild an evaluation from what travelled, perhaps from a site that is wrong.

        Raises
        ------
        ProtocolError
            If a count is missing, negative, of another size, or impossible.
        """
        counts = {}
        for wanted in task.sums(outputs):
            values = np.asarray(sums.get(wanted.name, ()), dtype=np.int64).ravel()
            if values.size != wanted.size or (values < 0).any():
                raise ProtocolError(
                    f"{wanted.name} has {values.size} entries, smallest "
                    f"{values.min(initial=0)}; expected {wanted.size} of at least 0"
                )
            counts[wanted.name] = values
        wrong = task.check({name: count.tolist() for name, count in counts.items()}, examples)
        if wrong:
            raise ProtocolError(wrong)
        return cls(task, float(loss_sum), int(examples), counts)


def mean_or(values: npt.NDArray[np.float64], nothing: float) -> float:
    """Return the mean of the values that are defined, or `nothing` where none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else nothing
