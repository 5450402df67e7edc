"""Noise in the aggregate, audited by repeated runs of the mechanism alone.

Two neighbouring inputs at the worst distance: one honest site's clipped update points one way, or
the other way, 2 clip_norm apart; all others are 0. Sites encode and add noise as in a private run,
as many drop out as may, and what is known of the rest is taken off the sum. What is left is tested
by its projection on the difference, with a threshold that is fixed before the runs.

Of `SOUND` settings none may exceed its claim (`primia_bench.privacy.audit.counting`); each of
`BROKEN` must.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primia_bench.privacy.audit.counting import best_log_ratio, compare
from primia_flwr.privacy.accounting.events import Gaussian
from primia_flwr.privacy.mechanisms.aggregate import AggregateNoise, clipped
from primia_flwr.secagg.payload.fixed_point import FixedPoint

CLIP_NORM = 1.0
ENTRIES = 4


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One audited aggregate.

    `noise_multiplier` is claimed; of `num_sites` only `survivors` are in the sum, `knowing` of
    which tell their noise. The rest is what really happens where that is another thing: each
    site's part is made for `planned_for` unknowing sites, `silent` honest ones add none, the noise
    is `noise_factor` times as wide.
    """

    name: str
    noise_multiplier: float
    num_sites: int = 5
    survivors: int = 3
    knowing: int = 1
    runs: int = 40_000
    planned_for: int | None = None
    silent: int = 0
    noise_factor: float = 1.0

    @property
    def claimed(self) -> AggregateNoise:
        """What the claim is about."""
        return AggregateNoise(
            self.noise_multiplier, CLIP_NORM, ENTRIES, self.num_sites, self.survivors, self.knowing
        )

    @property
    def real(self) -> AggregateNoise:
        """What runs."""
        noise = self.noise_multiplier * self.noise_factor
        wide = replace(self.claimed, noise_multiplier=noise)
        if self.planned_for is None:
            return wide
        return replace(wide, survivors=self.planned_for, knowing=0)

    @property
    def real_multiplier(self) -> float:
        """The noise that nobody knows, over the sensitivity."""
        planned = self.survivors - self.knowing if self.planned_for is None else self.planned_for
        unknown = self.survivors - self.knowing - self.silent
        return self.real.noise_multiplier * math.sqrt(unknown / planned)


SOUND = (
    Setting(name="as planned", noise_multiplier=0.7),
    Setting(name="as planned", noise_multiplier=1.0),
    Setting(name="as planned", noise_multiplier=2.0),
)
BROKEN = (
    Setting(name="one of two honest sites adds none", noise_multiplier=1.0, silent=1),
    Setting(name="a fifth each, two of five drop out", noise_multiplier=1.0, planned_for=5),
    Setting(name="noise for clip_norm, not twice that", noise_multiplier=1.0, noise_factor=0.5),
)


def run(setting: Setting) -> dict[str, Any]:
    """Run the mechanism on both inputs; return the claim, the lower bound and its counts."""
    return compare(
        setting.claimed.event,
        threshold=threshold(setting.real_multiplier),
        one=projections(setting, 1.0),
        other=projections(setting, -1.0),
    )


def threshold(noise_multiplier: float) -> float:
    """Return where to cut the projection, which is Gaussian around clip_norm and -clip_norm.

    With deviation s = 2 clip_norm noise_multiplier the likelihoods' ratio at a projection p is
    exp(2 clip_norm p / s^2).
    """
    ratio = best_log_ratio(Gaussian(noise_multiplier=noise_multiplier))
    return ratio * 2 * CLIP_NORM * noise_multiplier**2


def projections(setting: Setting, towards: float) -> NDArray[np.float64]:
    """Return (runs,) projections of what an attacker sees, for an update of +1 or -1 direction."""
    mechanism = setting.real
    direction = np.full(ENTRIES, 1 / math.sqrt(ENTRIES))
    update = clipped((10 * towards * direction).astype(np.float32), CLIP_NORM)
    encoded = np.zeros((setting.survivors, ENTRIES), np.uint32)
    FixedPoint(mechanism.clip, setting.num_sites).encode(
        update, 1.0, encoded[0], overflow="decline"
    )
    seen = np.empty((setting.runs, ENTRIES), np.int32)
    for row in seen:
        row[:] = _unknown_part(mechanism, encoded, setting)
    found: NDArray[np.float64] = seen @ direction * mechanism.step
    return found


def _unknown_part(
    mechanism: AggregateNoise, encoded: NDArray[np.uint32], setting: Setting
) -> NDArray[np.int32]:
    """Return one sum over the survivors, less what the knowing ones, the last, sent."""
    sent = encoded.copy()
    for vector in sent[setting.silent :]:
        mechanism.add_to(vector)
    total = sent.sum(axis=0, dtype=np.uint32)
    known = sent[setting.survivors - setting.knowing :].sum(axis=0, dtype=np.uint32)
    unknown: NDArray[np.int32] = (total - known).view(np.int32)
    return unknown
