"""DP-SGD, audited in one run: canary patients, each in the data by a coin, and who guesses which.

Everything between the images and the noisy gradient is the code of a private run: units, draws,
views, clipping engine, noise; and the claim is the accountant's. `SOUND` settings must hold their
claim. `BROKEN` ones have a mistake that was made before, and the audit must catch it: its lower
bound must be above the claim.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from primia_bench.privacy.audit.attacker import Attacker
from primia_bench.privacy.audit.patients import Patients, canaries, canary, network, ordinary
from primia_flwr.privacy.accounting.accountant import epsilon, noise_multiplier_for
from primia_flwr.privacy.accounting.empirical_epsilon import one_run_lower_bound
from primia_flwr.privacy.accounting.events import SampledGaussian
from primia_flwr.privacy.clipping import build_engine
from primia_flwr.privacy.mechanisms.dp_step import Mechanism, NoisyGradient
from primia_flwr.privacy.mechanisms.randomness import fresh_generator
from primia_flwr.privacy.mechanisms.units import Units, units_of

_PART = 256  # units of a micro-batch
_LEARNING_RATE = 0.05


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One audited run.

    `epsilon`, `delta`, `rate`, `steps`, `clip_norm`, `views`, `engine`: what is claimed, and how.
    `guesses`: r, fixed beforehand. The rest is what really happens where that is another thing:
    `noise_factor` times the noise, units drawn with `real_rate`, clipped `by_image`.
    """

    name: str
    epsilon: float
    rate: float
    steps: int
    clip_norm: float
    guesses: int
    views: int = 2
    engine: str = "ghost"
    delta: float = 1e-5
    canaries: int = 1000
    ordinary: int = 300
    noise_factor: float = 1.0
    real_rate: float | None = None
    by_image: bool = False

    @property
    def drawn_with(self) -> float:
        """The rate with which units are drawn."""
        return self.rate if self.real_rate is None else self.real_rate

    @property
    def public_units(self) -> int:
        """The number of units that everybody is told: it does not depend on the coins."""
        return self.ordinary + self.canaries // 2


SOUND = (
    Setting(name="full batches", epsilon=1, rate=1.0, steps=10, clip_norm=1.0, guesses=400),
    Setting(
        name="half drawn", epsilon=3, rate=0.5, steps=10, clip_norm=0.1, guesses=200, engine="loop"
    ),
    Setting(
        name="a fifth drawn", epsilon=8, rate=0.2, steps=20, clip_norm=0.5, guesses=200, views=3
    ),
    Setting(name="full batches", epsilon=8, rate=1.0, steps=5, clip_norm=5.0, guesses=200),
)
_FULL = Setting(name="", epsilon=3, rate=1.0, steps=2, clip_norm=1.0, guesses=500)
BROKEN = (
    replace(_FULL, name="noise off", noise_factor=1e-6),
    replace(_FULL, name="noise for the mean, not the sum", noise_factor=1 / _FULL.public_units),
    replace(_FULL, name="clipped by image, not by patient", epsilon=1, views=8, by_image=True),
    replace(
        _FULL, name="all drawn, a twentieth claimed", epsilon=1, rate=0.05, steps=5, real_rate=1.0
    ),
)


def run(setting: Setting, *, seed: int = 0) -> dict[str, Any]:
    """Train once under attack; return the claim, the lower bound and the counts behind it.

    Parameters
    ----------
    seed : int
        Of what everybody knows: images, labels, first weights. Coins, draws and noise have none.
    """
    noise = noise_multiplier_for(
        epsilon=setting.epsilon,
        delta=setting.delta,
        sampling_rate=setting.rate,
        steps=setting.steps,
    )
    event = SampledGaussian(noise_multiplier=noise, sampling_rate=setting.rate, steps=setting.steps)
    claimed = epsilon([event], delta=setting.delta)
    coins = fresh_generator().integers(0, 2, setting.canaries).astype(bool)
    likely, unlikely = attacked(setting, coins, noise * setting.noise_factor, seed=seed)
    right = int(coins[likely].sum() + (~coins[unlikely]).sum())
    bound = one_run_lower_bound(
        guesses=setting.guesses, right=right, canaries=setting.canaries, delta=setting.delta
    )
    return {
        "claimed_epsilon": claimed.epsilon,
        "delta": setting.delta,
        "accountant": claimed.accountant,
        "lower_bound": bound,
        "right": right,
        "guesses": setting.guesses,
        "canaries": setting.canaries,
        "exceeds_claim": bound > claimed.epsilon,
        "noise_multiplier": noise,
    }


def attacked(
    setting: Setting, coins: NDArray[np.bool_], noise: float, *, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Train on the canaries whose coin says so; return whom the attacker takes for in, for out."""
    known = ordinary(setting.ordinary, seed=seed)
    possible = canaries(setting.canaries, images=setting.views, seed=seed + 1)
    data = known.with_(possible.only({canary(at) for at, coin in enumerate(coins) if coin}))
    model = network(seed=seed).train()
    expected = setting.drawn_with * setting.public_units
    mechanism = Mechanism(
        clip_norm=setting.clip_norm, noise_multiplier=noise, expected_batch=expected
    )
    engine = build_engine(
        setting.engine,
        model,
        partial(functional.cross_entropy, reduction="none"),
        clip_norm=setting.clip_norm,
        views=1 if setting.by_image else setting.views,
    )
    noisy = NoisyGradient(engine, mechanism=mechanism)
    attacker = Attacker(
        model,
        known,
        possible,
        views=setting.views,
        clip_norm=setting.clip_norm,
        noise_multiplier=noise,
        rate=setting.drawn_with,
        by_image=setting.by_image,
    )
    units = units_of("patient", data.names)
    optimizer = torch.optim.SGD(model.parameters(), lr=_LEARNING_RATE)
    for _ in range(setting.steps):
        attacker.look()
        noisy.set_gradients(_drawn(data, units, setting))
        released = [p.grad.reshape(-1) for p in model.parameters() if p.grad is not None]
        attacker.see(torch.cat(released) * expected)
        optimizer.step()
    return attacker.guess(setting.guesses)


def _drawn(data: Patients, units: Units, setting: Setting) -> list[tuple[Tensor, Tensor]]:
    """Return what one step draws, as a private run does (`primia_flwr.training.private`)."""
    chosen = units.views(units.sample(sampling_rate=setting.drawn_with), views=setting.views)
    size = _PART * setting.views
    parts = (torch.from_numpy(chosen[at : at + size]) for at in range(0, len(chosen), size))
    return [(data.images[part], data.labels[part]) for part in parts]
