"""How few answers give the last layer's weights away, and what limits that leaves.

A data owner that deviates shifts numbers before the last layer by powers of two; the scores then
differ by columns of its weights, each in bits of its own. A score has 64 - 16 = 48 bits that say
something, so no answer carries more than 48 bits a class, whichever layer is asked for.

Source: Lehmkuhl et al. 2021 (Muse, ePrint 2021/1040), section 3, with several columns an answer.
"""

import math
from dataclasses import dataclass
from typing import Self

from primia_flwr.errors import ConfigError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.lowering.lowering import Lowered

_CARRIED_BITS = 64 - ring.WEIGHT_BITS
_SHARE = 4  # a data owner gets the answers that read one column in so many, unless told otherwise


@dataclass(frozen=True)
class LastLayer:
    """The layer before the scores: columns, and bits of its largest weight with the sign."""

    width: int
    bits: int

    @classmethod
    def of(cls, lowered: Lowered) -> Self:
        """Return that of a lowered model."""
        weight = lowered.weights[lowered.plan.linears[-1].weight].weight
        largest = max(abs(int(weight.min())), abs(int(weight.max())))
        return cls(math.prod(weight.shape[1:]), largest.bit_length() + 1)

    @property
    def columns(self) -> float:
        """How many columns an answer carries, exact to a unit of the fixed point."""
        return _CARRIED_BITS / self.bits

    @property
    def answers(self) -> int:
        """With how many answers all of them are read: with fewer no attack reads it exactly."""
        return math.ceil(self.width * self.bits / _CARRIED_BITS)

    def __str__(self) -> str:
        return (
            f"{self.answers} answers read the last layer of this model ({self.width} columns, "
            f"{self.columns:.1f} an answer)"
        )


@dataclass(frozen=True)
class Limits:
    """Images that a data owner may have classified: within a period, and of this model ever."""

    period: int
    life: int


def limits_for(layer: LastLayer, *, limit: int, life_limit: int, accepted: bool) -> Limits:
    """Return both limits; 0 stands for a quarter of the answers that read the last layer.

    `layer`: of the model that is served. `limit`, `life_limit`: what the model owner has said.
    `accepted`: whether the model owner has said that a data owner may be able to read the layer.

    Raises
    ------
    ConfigError
        If one of them is not below those answers, and that was not accepted.
    """
    share = max(layer.answers // _SHARE, 1)
    limits = Limits(limit or share, life_limit or share)
    for key, value in (("limit", limits.period), ("life_limit", limits.life)):
        if value >= layer.answers and not accepted:
            raise ConfigError(
                f"{key}={value}: {layer}; expected {key} below {layer.answers}, e.g. {share}, or "
                "accept_extraction=true, which says that you let each data owner have the means to "
                "copy these weights, and trust it by contract not to"
            )
    return limits
