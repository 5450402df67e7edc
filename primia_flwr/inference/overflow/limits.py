"""What an audit of comparisons takes for granted, and refuses where it does not hold.

The comparisons show a number outside its ring only if it is still outside when it is compared:

- A wrong cut of a product is off by 2^48. What is compared then is a cut, or a sum of two cuts, or
  of a cut and a number that was in its ring. Right, it is below 2 * 2^46 or 2^46 + 2^(n-1), so with
  one wrong cut it is at least 2^47 away from 0: outside of every ring of at most 47 bits. (Two
  wrong cuts that cancel leave the sum right.)
- For that, products stay below 2^62, where a cut is below 2^46; one of 2^63 would come back as any
  number. They do where the magnitudes of one output's weights add up to less than 2^62 / 2^(n-1):
  its factors are compared before it.
- A check lets pass a number up to a 128th above its ring, if it was compared rightly: there is room
  for that in all of these bounds.
- Everything is compared before it is multiplied or averaged (`check_plan`).
- Images and scores are compared with nothing. Images are in range because of the card's mean and
  deviation (`offers.read_card`); at the scores the data owner, who knows them, looks itself.
"""

import math

from torch import Tensor

from primia_flwr.errors import ConfigError
from primia_flwr.inference.lowering.builder import Weights
from primia_flwr.inference.plan import (
    Add,
    Average,
    Concat,
    Difference,
    Enlarge,
    Flatten,
    Fork,
    Linear,
    MaxLevel,
    Open,
    Pad,
    Plan,
    Relu,
    Reveal,
)

# What is known of a value: it was compared, or is the image; the cut of a product; a sum of such.
_SEEN, _CUT, _SUM = _LEAST = "seen", "cut", "sum"  # from the most to the least that is known
LIMIT_BITS = 32  # images and scores are below 2^31 units, 262,144


def beyond(values: Tensor) -> bool:
    """Say whether images or scores, int64 in fixed point, have a number that cannot be right."""
    limit = 1 << (LIMIT_BITS - 1)
    return bool(((values < -limit) | (values >= limit)).any())


def check_plan(plan: Plan) -> None:
    """Refuse a network that uses a number before a comparison has seen it.

    Raises
    ------
    ConfigError
        Naming the layer.
    """
    known = {0: _SEEN}
    for step in plan.steps:
        match step:
            case Open():
                _demand(known[step.source] == _SEEN, f"linear layer {step.opening + 1}")
            case Average():
                _demand(known[step.source] == _SEEN, "an average")
                known[step.target] = _SEEN
            case Linear():
                known[step.target] = _CUT
            case Relu():
                known[step.target] = _SEEN
            case Add():
                terms = (known[step.left], known[step.right])
                _demand(_SUM not in terms, "a sum")
                known[step.target] = _SUM
            case Concat():
                known[step.target] = max((known[one] for one in step.sources), key=_LEAST.index)
            case MaxLevel() | Flatten() | Pad() | Fork() | Difference() | Enlarge():
                known[step.target] = known[step.source]
            case Reveal():  # the data owner looks at the scores itself
                _demand(known[step.source] == _CUT, "the answer")


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise ConfigError(
            f"audit=true: {what} takes numbers that no comparison has seen; expected a network "
            "with a ReLU before each linear layer, e.g. a ResNet; set audit=false for this one"
        )


def check_products(layers: tuple[Weights, ...], bits: int) -> None:
    """Refuse weights whose products of numbers in a ring could reach 2^62.

    `layers`: in fixed point. `bits`: of the ring.

    Raises
    ------
    ConfigError
        Naming the largest ring that is small enough, if there is one.
    """
    fitting = largest_ring(layers)
    if max(bits, LIMIT_BITS) > fitting:
        remedy = f"compare_bits={fitting}" if fitting >= LIMIT_BITS else "audit=false"
        raise ConfigError(
            f"audit=true with compare_bits={bits}: the weights of an output are so large that a "
            "product could reach 2^62; expected a smaller ring, or smaller weights; set "
            f"{remedy}"
        )


def largest_ring(layers: tuple[Weights, ...]) -> int:
    """Return the bits of the largest ring whose numbers give products below 2^62, 0 to 64."""
    least = min((_room(layer) for layer in layers), default=2.0**64)
    return min(math.ceil(math.log2(least)), 64) if least > 1 else 0


def _room(layer: Weights) -> float:
    """Return the magnitude of inputs from which on a product could be 2^62."""
    sums = layer.weight.flatten(1).abs().double().sum(dim=1).cpu()
    room = (2.0**62 - layer.bias.abs().double()) / sums.clamp(min=1)
    return float(room.min())
