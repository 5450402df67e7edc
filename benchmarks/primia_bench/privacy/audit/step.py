"""One step of DP-SGD, audited by repeated runs: near enough to the claim to see small mistakes.

Two neighbouring data sets: one patient, or this patient and a canary whose gradient is orthogonal
and has the norm that is clipped to. The real step draws, clips and adds noise; its sum is
projected on the canary's gradient, over its square: around 0 without the canary, around 1 where it
was drawn. The threshold is fixed before the runs.

Of `SOUND` settings none may exceed its claim (`primia_bench.privacy.audit.counting`); each of
`BROKEN` must.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from primia_bench.privacy.audit.counting import best_log_ratio, compare
from primia_flwr.privacy.accounting.events import SampledGaussian
from primia_flwr.privacy.clipping import build_engine
from primia_flwr.privacy.mechanisms.dp_step import Mechanism, NoisyGradient
from primia_flwr.privacy.mechanisms.units import units_of

CLIP_NORM = 0.5
VIEWS = 2
# Two images of each patient, alike, so that an image alone has the gradient of its patient.
_IMAGES = torch.eye(4)[[0, 0, 1, 1]] * 10
_LABELS = torch.tensor([0, 0, 1, 1])
_PATIENTS = ("canary", "canary", "known", "known")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One audited step.

    `noise_multiplier` and `rate` are claimed. What really happens where that is another thing: the
    noise is `noise_factor` times as wide, or images are clipped instead of patients (`by_image`).
    """

    name: str
    noise_multiplier: float
    rate: float = 1.0
    runs: int = 10_000
    noise_factor: float = 1.0
    by_image: bool = False

    @property
    def claimed(self) -> SampledGaussian:
        """What the claim is about."""
        return SampledGaussian(
            noise_multiplier=self.noise_multiplier, sampling_rate=self.rate, steps=1
        )

    @property
    def adds(self) -> int:
        """What a drawn canary adds to the sum, in norms that are clipped to."""
        return VIEWS if self.by_image else 1

    @property
    def real(self) -> SampledGaussian:
        """The event that would describe what runs."""
        factor = self.noise_factor / self.adds
        return SampledGaussian(
            noise_multiplier=self.noise_multiplier * factor, sampling_rate=self.rate, steps=1
        )


SOUND = (
    Setting(name="one step, all drawn", noise_multiplier=1.0),
    Setting(name="one step, half drawn", noise_multiplier=0.7, rate=0.5),
)
BROKEN = (
    Setting(name="one step, half the variance", noise_multiplier=1.0, noise_factor=0.5**0.5),
    Setting(name="one step, clipped by image", noise_multiplier=1.0, by_image=True),
)


def run(setting: Setting) -> dict[str, Any]:
    """Run the step on both data sets; return the claim, the lower bound and its counts."""
    return compare(
        setting.claimed,
        threshold=threshold(setting),
        one=projections(setting, with_canary=True),
        other=projections(setting, with_canary=False),
    )


def threshold(setting: Setting) -> float:
    """Return where to cut the projection.

    For noise s and rate q the likelihoods' ratio at p is 1 - q + q exp((2 p - 1) / (2 s^2)); both
    p and s are in units of what a drawn canary adds.
    """
    noise, ratio = setting.real.noise_multiplier, math.exp(best_log_ratio(setting.real))
    drawn = (ratio - 1 + setting.rate) / setting.rate
    return setting.adds * (noise**2 * math.log(drawn) + 0.5)


def projections(setting: Setting, *, with_canary: bool) -> NDArray[np.float64]:
    """Return (runs,) projections of the noisy sum on the canary's clipped gradient."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3, bias=False)
    engine = build_engine(
        "ghost",
        model,
        partial(functional.cross_entropy, reduction="none"),
        clip_norm=CLIP_NORM,
        views=1 if setting.by_image else VIEWS,
    )
    own = engine.clipped_sum(_IMAGES[:VIEWS], _LABELS[:VIEWS])[0] / setting.adds
    mechanism = Mechanism(
        clip_norm=CLIP_NORM,
        noise_multiplier=setting.noise_multiplier * setting.noise_factor,
        expected_batch=setting.rate * 2,
    )
    noisy, found = NoisyGradient(engine, mechanism=mechanism), np.zeros(setting.runs)
    for at in range(setting.runs):
        noisy.set_gradients(_drawn(setting.rate, with_canary))
        if model.weight.grad is not None:
            found[at] = (model.weight.grad * own).sum()
    return found * mechanism.expected_batch / CLIP_NORM**2


def _drawn(rate: float, with_canary: bool) -> list[tuple[Tensor, Tensor]]:
    """Return what a step draws."""
    first = 0 if with_canary else VIEWS
    units = units_of("patient", _PATIENTS[first:])
    shown = torch.from_numpy(first + units.views(units.sample(sampling_rate=rate), views=VIEWS))
    return [(_IMAGES[shown], _LABELS[shown])] if len(shown) else []
