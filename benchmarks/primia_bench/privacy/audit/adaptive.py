"""A clip that moves, audited by repeated runs: the gradients and the clip are seen, and both count.

`fit_private`, as a site calls it, runs many times on two neighbouring data sets: fifteen patients,
or these and a canary (`primia_bench.privacy.audit.paths`). After each round the attacker sees the
model and the norm that the next round clips to, and works out the two noisy sums, of gradients and
of centred counts: it knows what they were divided by. In deviations of their noise they are
projected on the mean difference of runs with nearly no noise. The canary's gradient is longer than
the clip: it moves one sum by the clip, and the other by a half.

Of `SOUND` settings none may exceed its claim (`primia_bench.privacy.audit.counting`); each of
`BROKEN` must.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import torch

from primia_bench.privacy.audit import paths
from primia_bench.privacy.audit.counting import compare
from primia_bench.privacy.audit.paths import KNOWN, REHEARSALS, Seen
from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.privacy.accounting.events import SampledGaussian
from primia_flwr.privacy.mechanisms.adaptive_clip import ClipRule
from primia_flwr.training.private import fit_private
from primia_flwr.training.private_plan import PrivatePlan

CLIP_NORM, QUANTILE, RATE = 0.25, 0.5, 0.2
_SILENT = 1e-3


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting.

    `noise_multiplier`, `rate`: claimed, for each of `rounds` of one step. `count_noise`: on the
    count below the clip. What really happens where that is another thing: the gradients are not
    noisier because something is counted (`unpaid`), the count's noise is `count_factor` times as
    wide.
    """

    name: str
    noise_multiplier: float = 1.0
    rate: float = 1.0
    engine: str = "ghost"
    rounds: int = 1
    count_noise: float = 1.0
    unpaid: bool = False
    count_factor: float = 1.0
    runs: int = 4000
    choosing: int = 400

    @property
    def claimed(self) -> SampledGaussian:
        """What the site charges: nothing for the counts."""
        return SampledGaussian(
            noise_multiplier=self.noise_multiplier, sampling_rate=self.rate, steps=self.rounds
        )


SOUND = (
    Setting(name="clip that moves"),
    Setting(name="nearly all of it for the count", count_noise=0.52),
    Setting(name="nearly nothing for the count", count_noise=5.0, engine="loop", runs=2000),
    Setting(name="half drawn", rate=0.5, noise_multiplier=0.7),
    Setting(name="two rounds, the clip kept", rounds=2),
)
BROKEN = (
    Setting(name="counts not paid for", count_noise=0.52, unpaid=True, runs=8000),
    Setting(name="a third of the noise on the count", count_factor=1 / 3),
)


def run(setting: Setting) -> dict[str, Any]:
    """Run it on both data sets; return the claim, the lower bound and its counts."""
    torch.set_num_threads(1)
    with _mistakes(setting):
        towards = direction(setting)
        one, other = (
            projections(setting, towards, setting.choosing + setting.runs, with_canary=there)
            for there in (True, False)
        )
    first, rest = slice(setting.choosing), slice(setting.choosing, None)
    threshold = paths.best_threshold(one[first], other[first], rate=setting.rate)
    return compare(setting.claimed, threshold=threshold, one=one[rest], other=other[rest])


def direction(setting: Setting) -> Seen:
    """Return the mean difference of rehearsals in which all are drawn, of length 1."""
    surely = replace(setting, rate=1.0)
    together, alone = (
        np.mean(
            [released(surely, with_canary=there, silent=True) for _ in range(REHEARSALS)], axis=0
        )
        for there in (True, False)
    )
    found: Seen = (together - alone) / np.linalg.norm(together - alone)
    return found


def projections(setting: Setting, towards: Seen, count: int, *, with_canary: bool) -> Seen:
    """Return (count,) projections of what is seen on a direction."""
    return np.array([released(setting, with_canary=with_canary) @ towards for _ in range(count)])


def released(setting: Setting, *, with_canary: bool, silent: bool = False) -> Seen:
    """Return what is known of a site after each round, as one vector in deviations of noise."""
    model, data, seen, clip_norm = paths.network(), paths.patients(with_canary), [], CLIP_NORM
    noise = _SILENT if silent else 1.0
    for number in range(setting.rounds):
        plan = PrivatePlan(
            setting.noise_multiplier * noise, setting.rate, 1, number, setting.rounds
        )
        before = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
        left = fit_private(
            model, data, paths._recipe(_AS_PATHS), _privacy(setting, noise), plan,
            clip_norm=clip_norm,
        )  # fmt: skip
        after = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
        gradients, counts = _deviations(setting, clip_norm)
        batch = setting.rate * (KNOWN + with_canary)
        sums = (before - after).double().numpy() * batch / gradients
        count = -math.log(left.clip_norm / clip_norm) / RATE * batch / counts
        seen.append(np.append(sums, count))
        clip_norm = left.clip_norm
    return np.concatenate(seen)


_AS_PATHS = paths.Setting(name="plain steps")


def _privacy(setting: Setting, noise: float) -> PrivacyConfig:
    return PrivacyConfig(
        mode="dp_sgd",
        noise_multiplier=setting.noise_multiplier * noise,
        clip_norm=CLIP_NORM,
        clip_quantile=QUANTILE,
        clip_rate=RATE,
        clip_count_noise=setting.count_noise * noise,
        expected_batch=KNOWN,
        engine=setting.engine,
    )


def _deviations(setting: Setting, clip_norm: float) -> tuple[float, float]:
    """Return those of the noise on a gradient's entry, and on the centred count."""
    rule = ClipRule(quantile=QUANTILE, rate=RATE, count_noise=setting.count_noise)
    gradients = rule.gradient_noise(setting.noise_multiplier) * clip_norm
    return gradients, setting.count_noise * setting.count_factor


@contextmanager
def _mistakes(setting: Setting) -> Iterator[None]:
    """Make the mistakes that a setting asks for."""
    with ExitStack() as stack:
        if setting.unpaid:
            free = mock.patch.object(ClipRule, "gradient_noise", lambda _, noise: noise)
            stack.enter_context(free)
        if setting.count_factor != 1:
            sound = ClipRule.sigma.fget  # type: ignore[attr-defined]
            less = property(lambda rule: sound(rule) * setting.count_factor)
            stack.enter_context(mock.patch.object(ClipRule, "sigma", less))
        yield
