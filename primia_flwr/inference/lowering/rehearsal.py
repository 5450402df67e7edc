"""A plan in fixed point, computed in the clear by who owns the model: what the parties will find.

All numbers are integers in float64, which is exact below 2^53; beyond, what is lost is far below
what is cut off. A cut of two random shares rounds x / 2^b down, or up with a probability of what is
cut off, in units of 2^b: so it is drawn here. With probability |x| / 2^64 a cut is wrong by
2^(64 - b); here none is, and how many are to be expected is counted.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from primia_flwr.errors import ConfigError
from primia_flwr.inference import plan as steps
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.lowering.builder import Weights
from primia_flwr.inference.lowering.lowering import Lowered

_PRODUCT_LIMIT = 2.0**62  # of the ring's 2^63, which would come back as any number


class Rehearsal:
    """Runs batches of one image.

    Parameters
    ----------
    lowered : Lowered
        For one image.
    generator : torch.Generator
        For the rounding.

    Attributes
    ----------
    wrong_cuts : float
        How many numbers are expected to be cut wrongly, over all images so far.
    """

    def __init__(self, lowered: Lowered, *, generator: torch.Generator) -> None:
        self._plan, self._generator = lowered.plan, generator
        self._weights = [Weights(w.weight.double(), w.bias.double()) for w in lowered.weights]
        self._values: dict[int, Tensor] = {}
        self._opened: dict[int, Tensor] = {}
        self.wrong_cuts = 0.0

    def classify(self, images: Tensor) -> Tensor:
        """Return the scores (N, classes), float64, of normalised images (N, C, H, W).

        Raises
        ------
        ConfigError
            If a product leaves the ring.
        """
        self._values = {0: ring.encode(images, ring.ACTIVATION_BITS).double()}
        for step in self._plan.steps:
            if isinstance(step, steps.Reveal):
                return self._values[step.source] * 2.0**-ring.ACTIVATION_BITS
            _STEPS[type(step)](self, step)
        raise ConfigError("the plan reveals nothing; expected a last step that does")

    def _open(self, step: steps.Open) -> None:
        self._opened[step.opening] = self._values[step.source]

    def _linear(self, step: steps.Linear) -> None:
        weights, geometry = self._weights[step.weight], step.geometry
        product = ring.product(self._opened[step.opening], weights.weight, geometry)
        product += weights.bias if geometry is None else weights.bias[:, None, None]
        largest = float(product.abs().max())
        if not largest < _PRODUCT_LIMIT:
            raise ConfigError(
                f"linear layer {step.weight + 1} gives a product of {largest:.3g} in fixed point "
                "on one of the images; expected less than 2^62: its numbers are too large for the "
                "ring; train with weight decay, or scale them down; nothing was written"
            )
        self._values[step.target] = self._cut(product, torch.tensor(2.0**ring.WEIGHT_BITS))

    def _cut(self, product: Tensor, by: Tensor) -> Tensor:
        """Divide by positive integers: down, or up with the probability of what is cut off."""
        self.wrong_cuts += float(product.abs().sum()) / 2.0**64
        drawn = torch.rand(product.shape, dtype=torch.float64, generator=self._generator)
        return torch.floor((product + torch.floor(drawn * by)) / by)

    def _relu(self, step: steps.Relu) -> None:
        self._values[step.target] = self._values[step.source].clamp(min=0)

    def _maxima(self, step: steps.MaxLevel) -> None:
        source, pairs = self._values[step.source], torch.tensor(step.pairs, dtype=torch.int64)
        result = source.index_select(step.axis, torch.tensor(step.first))
        other = source.index_select(step.axis, torch.tensor([step.second[i] for i in step.pairs]))
        larger = torch.maximum(result.index_select(step.axis, pairs), other)
        self._values[step.target] = result.index_copy_(step.axis, pairs, larger)

    def _average(self, step: steps.Average) -> None:
        sums, cells = ring.window_sums(self._values[step.source], step)
        self._values[step.target] = self._cut(sums, cells)

    def _add(self, step: steps.Add) -> None:
        self._values[step.target] = self._values[step.left] + self._values[step.right]

    def _flatten(self, step: steps.Flatten) -> None:
        self._values[step.target] = self._values[step.source].reshape(step.shape)

    def _pad(self, step: steps.Pad) -> None:
        self._values[step.target] = functional.pad(self._values[step.source], step.cells)

    def _enlarge(self, step: steps.Enlarge) -> None:
        self._values[step.target] = ring.enlarge(self._values[step.source], step.factor)

    def _concat(self, step: steps.Concat) -> None:
        self._values[step.target] = torch.cat([self._values[one] for one in step.sources], dim=1)

    def _fork(self, step: steps.Fork) -> None:
        source = self._values[step.source]
        limit = step.limit * 2.0**ring.ACTIVATION_BITS
        self._values[step.target] = torch.cat([source, source - limit])

    def _difference(self, step: steps.Difference) -> None:
        first, second = self._values[step.source].chunk(2)
        self._values[step.target] = first - second


_STEPS: dict[type, Callable[[Rehearsal, Any], None]] = {
    steps.Open: Rehearsal._open,
    steps.Linear: Rehearsal._linear,
    steps.Relu: Rehearsal._relu,
    steps.MaxLevel: Rehearsal._maxima,
    steps.Average: Rehearsal._average,
    steps.Add: Rehearsal._add,
    steps.Flatten: Rehearsal._flatten,
    steps.Pad: Rehearsal._pad,
    steps.Enlarge: Rehearsal._enlarge,
    steps.Concat: Rehearsal._concat,
    steps.Fork: Rehearsal._fork,
    steps.Difference: Rehearsal._difference,
}
