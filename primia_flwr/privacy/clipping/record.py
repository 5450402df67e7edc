"""What one layer saw of a micro-batch, and what a rule makes of it."""

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Record:
    """What one layer saw: its input x, its output y, the gradient dy of y.

    Batch first, `views` neighbours a unit, float32 or float64. `kept` is what a rule has worked out
    for the norms and needs again for the sum.
    """

    x: Tensor
    y: Tensor
    dy: Tensor
    views: int
    kept: list[Tensor] = field(default_factory=list)

    @property
    def units(self) -> int:
        """Units of the micro-batch."""
        return self.dy.shape[0] // self.views

    def of_unit(self, unit: int) -> "Record":
        """Return what the layer saw of one unit."""
        part = slice(unit * self.views, (unit + 1) * self.views)
        return Record(self.x[part], self.y[part], self.dy[part], self.views)

    def scaled(self, factors: Tensor) -> Tensor:
        """Return dy times each unit's factor, (units,)."""
        shape = (-1,) + (1,) * (self.dy.dim() - 1)
        return self.dy * factors.repeat_interleave(self.views).view(shape)

    def by_unit(self, values: Tensor) -> Tensor:
        """Sum (units * views, C, positions ...) to (units, C): over views and positions."""
        return values.flatten(2).sum(dim=2).view(self.units, self.views, -1).sum(dim=1)


Sums = list[tuple[Tensor, Tensor]]


class Rule(Protocol):
    """How one kind of layer is clipped."""

    def squared_norms(self, record: Record) -> Tensor:
        """Return (units,) float64: of the layer's trainable parameters, rounded up."""

    def clipped(self, record: Record, factors: Tensor) -> Sums:
        """Return each trainable parameter with the sum of its gradients times the factors."""
