"""A second task, unlike classification: how severe an image is, as a number.

The label is a grade, the output the grade that the softmax of the logits expects. What travels is
how many images are how many grades off; the objective, the mean of that, is better when lower.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from primia_flwr.tasks.judge import Judge, ModelScores
from primia_flwr.tasks.task import LOSS, Metric, Sum, Task

OFF = Metric("off", "grades off", 0, float("inf"), higher_is_better=False)


class Grade(Task):
    name = "grade"
    metrics = (Metric(LOSS, "loss", 0, float("inf"), higher_is_better=False), OFF)
    objective = "off"
    loss_words = "squared error"

    def sums(self, outputs: int) -> tuple[Sum, ...]:
        return (Sum("distances", outputs, "distances from the true grade"),)

    def label_sum(self, outputs: int) -> Sum:
        return Sum("grades", outputs, "training images of each grade")

    def labelled(self, label_counts: Sequence[float]) -> float:
        return sum(label_counts)

    def check(self, counts: Mapping[str, Sequence[float]], examples: float) -> str:
        counted = sum(counts["distances"])
        return "" if counted == examples else f"distances of {counted:g} images, not {examples:g}"

    def figures(self, counts: Mapping[str, Any]) -> dict[str, float]:
        of = counts["distances"]
        return {"off": float((np.arange(len(of)) * of).sum() / of.sum())}

    def loss(self, cfg: Any, label_weights: Sequence[float] | None = None) -> Any:
        from torch import nn

        class SquaredError(nn.Module):
            def forward(self, logits: Any, targets: Any) -> Any:
                soft = targets if targets.ndim == 2 else TASK.soft(targets, logits.shape[1])
                return (_expected(logits) - _mean(soft)).square().mean()

        return SquaredError()

    def unit_loss(self, cfg: Any) -> Any:
        return lambda logits, labels: (_expected(logits) - labels).square()

    def label_weights(self, label_counts: Sequence[float]) -> tuple[float, ...]:
        return (1.0,) * len(label_counts)

    def soft(self, labels: Any, outputs: int) -> Any:
        from torch.nn import functional

        return functional.one_hot(labels, outputs).float()

    def measure(self, logits: Any, labels: Any) -> tuple[float, Mapping[str, Any]]:
        import torch

        grades = _expected(logits)
        distances = (grades.round() - labels).abs().long()
        counts = torch.bincount(distances, minlength=logits.shape[1]).numpy()
        return float((grades - labels).square().sum()), {"distances": counts}

    def probabilities(self, logits: Any) -> Any:
        return _expected(logits)

    @property
    def judge(self) -> "GradeJudge":
        return GradeJudge()


@dataclass(frozen=True)
class GradeScores(ModelScores):
    n: int
    loss: float
    off: float

    def figures(self) -> dict[str, float | None]:
        return {"loss": self.loss, "off": self.off}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class GradeJudge(Judge):
    tested = (OFF,)
    headline = ("off",)

    def score(self, labels: Any, outputs: Any, names: Sequence[str]) -> GradeScores:
        gaps = np.asarray(outputs) - np.asarray(labels)
        off = np.abs(np.rint(outputs) - labels).mean()
        return GradeScores(len(gaps), float((gaps**2).mean()), float(off))

    def read_scores(self, values: Mapping[str, Any]) -> GradeScores:
        return GradeScores(**values)

    def columns(self, names: Sequence[str]) -> list[str]:
        return ["grade", "said"]

    def names_of(self, columns: Sequence[str]) -> tuple[str, ...]:
        if list(columns) != self.columns(()):
            raise ValueError("grade,said")
        return ("said",)

    def cells(self, label: Any, output: Any, names: Sequence[str]) -> list[Any]:
        return [int(label), float(output)]

    def read_cells(self, cells: Sequence[str], names: Sequence[str]) -> tuple[int, float]:
        return int(cells[0]), float(cells[1])


def _expected(logits: Any) -> Any:
    return _mean(logits.double().softmax(dim=1))


def _mean(shares: Any) -> Any:
    import torch

    return (shares * torch.arange(shares.shape[1])).sum(dim=1)


TASK = Grade()
