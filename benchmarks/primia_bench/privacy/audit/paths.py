"""Every path of a private round, audited by repeated runs of the function that a site calls.

`fit_private`, as a site calls it, runs many times on two neighbouring data sets: fifteen patients,
or these and a canary. The attacker sees the models, knows all images but for whether the canary is
there, knows the experiment's seed, and may run the same code without noise as often as it likes:
the mean difference of such rehearsals is the direction on which it projects what it sees. So
whatever the canary moves counts, its own gradient or what it does to the others. The threshold is
chosen on runs of its own.

Of `SOUND` settings none may exceed its claim (`primia_bench.privacy.audit.counting`); each of
`BROKEN` must.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from primia_bench.privacy.audit.counting import best_log_ratio, compare
from primia_flwr.config.experiment.data import AffineConfig, AugmentationConfig, FlipConfig
from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.privacy.accounting.events import LEAST_NOISE, AnyEvent, Gaussian, SampledGaussian
from primia_flwr.privacy.mechanisms import statistics
from primia_flwr.privacy.mechanisms.averaging import averaged
from primia_flwr.privacy.mechanisms.shared_step import StepNoise
from primia_flwr.privacy.mechanisms.units import units_of
from primia_flwr.secagg.payload.fixed_point import FixedPoint
from primia_flwr.training import private
from primia_flwr.training.device import derive_seed
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.private import fit_private, shared_step
from primia_flwr.training.private_plan import PrivatePlan
from primia_flwr.training.recipe import Recipe

SIDE, CLASSES, KNOWN, IMAGES = 8, 3, 15, 2
CLIP_NORM = 1.0
STEPPED = ", four steps a unit"  # behind the name of an engine
REHEARSALS = 40
_AUGMENTATION = AugmentationConfig(
    affine=AffineConfig(probability=1.0, degrees=15.0, translate=0.08, scale=[0.8, 1.2], shear=6.0),
    flip=FlipConfig(horizontal=0.5),
)
_TRAINING = TrainingConfig(
    optimizer="sgd",
    learning_rate=1.0,
    min_learning_rate=1.0,
    schedule="constant",
    warmup=0.0,
    momentum=0.0,
    weight_decay=0.0,
    device="cpu",
)
Seen = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One path.

    `noise_multiplier`, `rate`: claimed. `engine`, `views`, `micro_batch`, `augmented`: of a step.
    `rounds`, of a step each, with `momentum`; `averaging`: only the average of their models is
    seen. `copies`: how often a round is answered, each time charged. `statistics`: the noisy
    statistics are seen, and nothing else. `in_the_sum`: the step is shared by three sites, of which
    one knows its part of the noise and the other has no patients. What really happens where that is
    another thing: `seeds_by_place` augments each view under a seed that its place in the batch
    gives, the noise is `noise_factor` times as wide, `uncharged` copies are not counted, the other
    honest site is `silent` and adds no noise.
    """

    name: str
    noise_multiplier: float = 1.0
    rate: float = 1.0
    engine: str = "ghost"
    views: int = 1
    micro_batch: int = 64
    augmented: bool = False
    rounds: int = 1
    momentum: float = 0.0
    averaging: float = 0.0
    copies: int = 1
    statistics: bool = False
    in_the_sum: bool = False
    silent: bool = False
    seeds_by_place: bool = False
    noise_factor: float = 1.0
    uncharged: int = 0
    runs: int = 2000
    choosing: int = 400

    @property
    def claimed(self) -> AnyEvent:
        """What the site charges."""
        if self.in_the_sum:
            return self.shared.event
        if self.statistics:
            return Gaussian(noise_multiplier=self.noise_multiplier)
        return SampledGaussian(
            noise_multiplier=self.noise_multiplier,
            sampling_rate=self.rate,
            steps=self.rounds * (self.copies - self.uncharged),
        )

    @property
    def shared(self) -> StepNoise:
        """Scale and noise of a step that three sites share."""
        return StepNoise(
            noise_multiplier=self.noise_multiplier,
            clip_norm=CLIP_NORM,
            entries=(SIDE**2 + 1) * CLASSES,
            num_sites=3,
            survivors=3,
            knowing=1,
            sampling_rate=self.rate,
            weight=1 / KNOWN,
            batch=KNOWN,
        )


SOUND = (
    Setting(name="ghost clipping"),
    Setting(name="loop over units", engine="loop"),
    Setting(name="four steps of a unit, then clipped", engine="loop" + STEPPED, runs=1000),
    Setting(name="Opacus", engine="opacus", runs=1000),
    Setting(name="half drawn", rate=0.5, noise_multiplier=0.7),
    Setting(name="augmentation", augmented=True),
    Setting(name="augmentation, three views", augmented=True, views=3, runs=1000),
    Setting(name="accumulation, a unit at a time", micro_batch=1, augmented=True),
    Setting(name="two rounds, momentum kept", rounds=2, momentum=0.5),
    Setting(name="two rounds, their average", rounds=2, averaging=0.9),
    Setting(name="a round answered twice", copies=2),
    Setting(name="noisy statistics", statistics=True, runs=10_000),
    Setting(name="noise shared in the sum", in_the_sum=True, augmented=True),
    Setting(name="noise shared, half drawn", in_the_sum=True, rate=0.5, noise_multiplier=0.7),
)
BROKEN = (
    Setting(name="views seeded by their place", augmented=True, seeds_by_place=True),
    Setting(name="three repetitions not charged", copies=4, uncharged=3, runs=1500),
    Setting(
        name="statistics, a third of the noise", statistics=True, noise_factor=1 / 3, runs=10_000
    ),
    Setting(name="noise shared, a site adds none", in_the_sum=True, silent=True, runs=20_000),
)


def run(setting: Setting) -> dict[str, Any]:
    """Run the path on both data sets; return the claim, the lower bound and its counts."""
    torch.set_num_threads(1)
    with _seeds(setting):
        towards = direction(setting)
        one = projections(setting, towards, setting.choosing + setting.runs, with_canary=True)
        other = projections(setting, towards, setting.choosing + setting.runs, with_canary=False)
    first, rest = slice(setting.choosing), slice(setting.choosing, None)
    threshold = best_threshold(one[first], other[first], rate=setting.rate)
    return compare(setting.claimed, threshold=threshold, one=one[rest], other=other[rest])


def direction(setting: Setting) -> Seen:
    """Return the mean difference of rehearsals without noise, of length 1."""
    silent = replace(setting, noise_factor=1e-3)
    together, alone = (
        np.mean([released(silent, with_canary=there) for _ in range(REHEARSALS)], axis=0)
        for there in (True, False)
    )
    found: Seen = (together - alone) / np.linalg.norm(together - alone)
    return found


def projections(setting: Setting, towards: Seen, count: int, *, with_canary: bool) -> Seen:
    """Return (count,) projections of what is seen on a direction."""
    return np.array([released(setting, with_canary=with_canary) @ towards for _ in range(count)])


def best_threshold(one: Seen, other: Seen, *, rate: float = 1.0) -> float:
    """Return where to cut, from runs that are spent with it.

    As if the noise were Gaussian. With s its deviation over the distance d by which a drawn canary
    moves the projection, the likelihoods' ratio at m0 + d p is 1 - q + q exp((2 p - 1) / (2 s^2)).
    """
    moves = max(float(one.mean() - other.mean()) / rate, 1e-9)
    noise = min(max(float(other.std()) / moves, LEAST_NOISE), 100.0)
    event = SampledGaussian(noise_multiplier=noise, sampling_rate=rate, steps=1)
    drawn = (math.exp(best_log_ratio(event)) - 1 + rate) / rate
    return float(other.mean()) + moves * (noise**2 * math.log(drawn) + 0.5)


def released(setting: Setting, *, with_canary: bool) -> Seen:
    """Return all that leaves the site, as one vector."""
    data = patients(with_canary)
    if setting.statistics:
        return _statistics(setting, data)
    if setting.in_the_sum:
        return _sum(setting, data)
    answers = [_answer(setting, data) for _ in range(setting.copies)]
    together: Seen = np.mean(answers, axis=0)  # equally noisy: their mean says all
    return together


def _answer(setting: Setting, data: LabelledImages) -> Seen:
    """Return what the models of all rounds say; of an average, that of the last."""
    model, seen = network(), []
    average, state = _state(model), dict[str, Tensor]()
    for number in range(setting.rounds):
        before = _state(model)
        left = fit_private(
            model,
            data,
            _recipe(setting),
            _privacy(setting),
            PrivatePlan(
                setting.noise_multiplier * setting.noise_factor,
                setting.rate,
                1,
                number,
                setting.rounds,
            ),
            optimizer_state=state,
        )
        after, state = _state(model), left.optimizer_state
        average = averaged(average, after, decay=setting.averaging, rounds=number)
        seen.append(np.concatenate([(after[name] - before[name]).ravel() for name in after]))
    if setting.averaging:
        seen = [np.concatenate([average[name].ravel() for name in average])]
    found: Seen = np.concatenate(seen).astype(np.float64)
    return found


def _sum(setting: Setting, data: LabelledImages) -> Seen:
    """Return the sum of a shared step, less what the site that knows its part has sent."""
    noise = setting.shared
    wide = replace(noise, noise_multiplier=noise.noise_multiplier * setting.noise_factor)
    plan = PrivatePlan(wide.noise_multiplier, setting.rate, 1, 0, 1)
    update = shared_step(
        network(), data, _recipe(setting), _privacy(setting), plan, weight=wide.weight
    )
    flat = np.concatenate([value.numpy().ravel() for value in update.values()])
    sent = np.zeros((2, wide.entries), np.uint32)
    FixedPoint(wide.clip, wide.num_sites).encode(wide.bounded(flat), 1.0, sent[0])
    for vector in sent[: 1 if setting.silent else 2]:
        wide.add_to(vector)
    found: Seen = sent.sum(axis=0, dtype=np.uint32).view(np.int32) * wide.step
    return found


def _statistics(setting: Setting, data: LabelledImages) -> Seen:
    sums = statistics.noisy_sums(
        data.images.numpy(),
        data.labels.tolist(),
        units_of("patient", data.patients),
        outputs=CLASSES,
        noise_multiplier=setting.noise_multiplier * setting.noise_factor,
    )
    return np.array([*sums.levels, *sums.squares, *sums.classes])


def _recipe(setting: Setting) -> Recipe:
    return Recipe(
        replace(_TRAINING, momentum=setting.momentum),
        Normalisation((0.5,), (0.25,)),
        seed=1234,
        augmentation=_AUGMENTATION if setting.augmented else None,
    )


def _privacy(setting: Setting) -> PrivacyConfig:
    return PrivacyConfig(
        mode="dp_sgd",
        noise_multiplier=setting.noise_multiplier,
        clip_norm=CLIP_NORM,
        expected_batch=KNOWN,
        views=setting.views,
        engine=setting.engine.removesuffix(STEPPED),
        micro_batch=setting.micro_batch,
        patient_steps=4 if setting.engine.endswith(STEPPED) else 1,
        patient_rate=0.5,
    )


def network() -> nn.Module:
    """Return a linear model with the weights that everybody knows."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, CLASSES))


def _state(model: nn.Module) -> dict[str, NDArray[np.float32]]:
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


@lru_cache(maxsize=2)
def patients(with_canary: bool) -> LabelledImages:
    """Return patients of two images each; the canary's name is the first in the alphabet."""
    rng = np.random.default_rng(0)
    blobs = rng.integers(0, 40, (KNOWN + 1, 1, 1, SIDE, SIDE))
    blobs = blobs + rng.integers(0, 5, (KNOWN + 1, IMAGES, 1, SIDE, SIDE))
    for patient in range(KNOWN + 1):
        top, left = rng.integers(0, SIDE - 3, 2)
        blobs[patient, :, :, top : top + 3, left : left + 3] += 200
    images = torch.from_numpy(blobs.reshape(-1, 1, SIDE, SIDE).astype(np.uint8))
    owners = [name for name in ("canary", *(f"known {at:02d}" for at in range(KNOWN)))]
    names = [name for name in owners for _ in range(IMAGES)]
    labels = torch.arange(KNOWN + 1).repeat_interleave(IMAGES) % CLASSES
    whole = LabelledImages(
        images,
        labels,
        tuple(f"{at}.png" for at in range(len(names))),
        tuple(names),
        tuple(map(str, range(CLASSES))),
    )
    return whole if with_canary else whole.select(range(IMAGES, len(names)))


@contextmanager
def _seeds(setting: Setting) -> Iterator[None]:
    """Put the seeding by place back where a setting asks for it."""
    if not setting.seeds_by_place:
        yield
        return

    def by_place(step: int, files: Sequence[str], views: int) -> list[int]:
        return [derive_seed(1234, "view", step, at) for at in range(len(files))]

    with mock.patch.object(private, "view_seeds", by_place):
        yield
