"""Train a model for one round with clipped, noisy steps: DP-SGD at one site.

Every step draws units of privacy at random, clips what each of them wants, adds noise, and divides
by the batch that is expected, not by the one that came. Each view is augmented under a secret seed
of its own: one unit more changes nothing of what the others contribute. What comes out is the
model, the optimiser's state and the clipping norm, functions of noisy sums only; losses and exact
counts are never returned.

Source: Abadi et al. 2016, Algorithm 1; De et al. 2022 for several views of a unit.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.data.names import key_of
from primia_flwr.data.transforms import build_augmentation
from primia_flwr.privacy.clipping.admission import refuse_mixup
from primia_flwr.privacy.clipping.engine import Engine
from primia_flwr.privacy.clipping.table import build_engine
from primia_flwr.privacy.mechanisms.adaptive_clip import AdaptiveGradient, ClipRule
from primia_flwr.privacy.mechanisms.dp_step import Mechanism, NoisyGradient, clipped_total
from primia_flwr.privacy.mechanisms.randomness import fresh_seed, view_seeds
from primia_flwr.privacy.mechanisms.units import Units, units_of
from primia_flwr.training.device import compute_settings, cpu_copy, pick_device, place
from primia_flwr.training.loader import BatchPreparation, augmented
from primia_flwr.training.optimizer import (
    build_optimizer,
    pack_state,
    set_learning_rate,
    unpack_state,
)
from primia_flwr.training.private_plan import PrivatePlan
from primia_flwr.training.recipe import Recipe
from primia_flwr.training.round import Progress
from primia_flwr.training.schedules import learning_rate

_State = dict[str, Tensor]


@dataclass(frozen=True)
class PrivateRound:
    """What a private round leaves, on the CPU: all of it may be known to everybody.

    The model's state, the optimiser's, and the norm to which the next round's first step clips.
    """

    state: _State
    optimizer_state: _State
    clip_norm: float


def unit_names(unit: str, images: LabelledImages) -> tuple[str, ...]:
    """Return the unit of every image: its patient, or its own file."""
    return images.patients if unit == "patient" else images.files


def known_by(unit: str, images: LabelledImages) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return by which names and digests a ledger knows units again: patients in any spelling."""
    names = unit_names(unit, images)
    if unit != "patient":
        return names, images.digests
    return names + tuple(key_of(name) or name for name in names), images.digests * 2


def fit_private(
    model: nn.Module,
    images: LabelledImages,
    recipe: Recipe,
    privacy: PrivacyConfig,
    plan: PrivatePlan,
    *,
    optimizer_state: Mapping[str, Tensor] | None = None,
    clip_norm: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> PrivateRound:
    """Take a round's noisy steps.

    Parameters
    ----------
    model : nn.Module
        Moved to the device and trained in place; parameters that are frozen stay as they are.
    images : LabelledImages
        All of one site.
    recipe : Recipe
        Optimiser, schedule, augmentation of each view.
    privacy : PrivacyConfig
        Unit, clipping norm, engine, views.
    plan : PrivatePlan
        Which steps, with how much noise.
    optimizer_state : mapping of name to tensor, optional
        Of the round before.
    clip_norm : float, optional
        Of the round before, where the clip is adaptive; by default the configured one.
    on_progress : callable, optional
        Called after each step, without a loss.

    Returns
    -------
    PrivateRound
        The model's state, the optimiser's, and the clipping norm.

    Raises
    ------
    ConfigError
        If the model has a layer that cannot be clipped, the recipe blends images (MixUp), or an
        adaptive clip's counts alone cost what a step may.
    """
    cfg = recipe.training
    privacy = replace(privacy, clip_norm=clip_norm or privacy.clip_norm)
    with _clipping(model, images, recipe, privacy, plan) as (engine, batches):
        gradient = _gradient(engine, batches.mechanism, privacy)
        optimizer = build_optimizer(model, cfg)
        unpack_state(optimizer, model, dict(optimizer_state or {}), kind=cfg.optimizer)
        started = time.monotonic()
        for done, step in enumerate(range(plan.start_step, plan.start_step + plan.steps), 1):
            set_learning_rate(optimizer, learning_rate(cfg, step, plan.total_steps))
            gradient.set_gradients(batches.of(step))
            optimizer.step()
            if on_progress:
                on_progress(_progress(done, plan.steps, started, batches.expected_images))
        return PrivateRound(_on_cpu(model), pack_state(optimizer, model), gradient.clip_norm)


def _gradient(engine: Engine, mechanism: Mechanism, privacy: PrivacyConfig) -> NoisyGradient:
    """Return what makes noisy gradients, with a fixed clip or one that moves."""
    if not privacy.clip_quantile:
        return NoisyGradient(engine, mechanism=mechanism)
    rule = ClipRule(
        quantile=privacy.clip_quantile, rate=privacy.clip_rate, count_noise=privacy.count_noise
    )
    return AdaptiveGradient(engine, mechanism=mechanism, rule=rule)


def shared_step(
    model: nn.Module,
    images: LabelledImages,
    recipe: Recipe,
    privacy: PrivacyConfig,
    plan: PrivatePlan,
    *,
    weight: float,
) -> _State:
    """Return a site's part of one step that all sites take together, before its noise.

    Parameters
    ----------
    model, images, recipe, privacy
        As `fit_private`.
    plan : PrivatePlan
        Its sampling rate, and which step it is.
    weight : float
        Of a clipped gradient: learning rate over expected batch.

    Returns
    -------
    dict
        What the sum of the units' clipped gradients adds to each array of the model, float64; 0
        where nothing is trained. It is as secret as the images.

    Raises
    ------
    ConfigError
        As `fit_private`.
    """
    with _clipping(model, images, recipe, privacy, plan) as (engine, batches):
        total = torch.from_numpy(-weight * clipped_total(engine, batches.of(plan.start_step)))
        parts = torch.split(total, [parameter.numel() for parameter in engine.parameters])
        found = {id(p): part for p, part in zip(engine.parameters, parts, strict=True)}
        return {
            name: found[id(value)].view(value.shape)
            if id(value) in found
            else torch.zeros(value.shape, dtype=torch.float64)
            for name, value in model.state_dict(keep_vars=True).items()
        }


@contextmanager
def _clipping(
    model: nn.Module,
    images: LabelledImages,
    recipe: Recipe,
    privacy: PrivacyConfig,
    plan: PrivatePlan,
) -> Iterator[tuple[Engine, "_Batches"]]:
    """Move the model to its device; give what clips its gradients, and what is drawn."""
    cfg = recipe.training
    device = recipe.device or pick_device(cfg.device)
    refuse_mixup(recipe.mixup.probability if recipe.mixup else 0.0)
    with compute_settings(
        device, seed=fresh_seed(), threads=cfg.threads, deterministic=cfg.deterministic
    ):
        place(model, device, channels_last=cfg.channels_last)
        model.train()
        loss = images.task.unit_loss(cfg)
        engine = build_engine(
            privacy.engine,
            model,
            loss,
            clip_norm=privacy.clip_norm,
            views=privacy.views,
            unit_steps=privacy.patient_steps,
            unit_rate=privacy.patient_rate,
        )
        yield engine, _Batches(images, recipe, privacy, plan, device)


class _Batches:
    """The units of each step, drawn at random, as micro-batches of augmented views."""

    def __init__(
        self,
        images: LabelledImages,
        recipe: Recipe,
        privacy: PrivacyConfig,
        plan: PrivatePlan,
        device: torch.device,
    ) -> None:
        self._images, self._recipe, self._privacy, self._plan = images, recipe, privacy, plan
        self._units: Units = units_of(privacy.unit, images.patients, images.digests)
        self._prepare = BatchPreparation(recipe, device, images)
        augmentation = recipe.augmentation
        self._augment = None if augmentation is None else build_augmentation(augmentation)
        expected = plan.sampling_rate * len(self._units)
        self.expected_images = expected * privacy.views
        self.mechanism = Mechanism(
            clip_norm=privacy.clip_norm,
            noise_multiplier=plan.noise_multiplier,
            expected_batch=expected,
        )

    def of(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images, labels) of whole units; nothing where no unit was drawn."""
        drawn = self._units.sample(sampling_rate=self._plan.sampling_rate)
        chosen = self._units.views(drawn, views=self._privacy.views)
        size = self._privacy.micro_batch * self._privacy.views
        for start in range(0, len(chosen), size):
            part = torch.from_numpy(np.ascontiguousarray(chosen[start : start + size]))
            views, labels = self._images.images[part], self._images.labels[part]
            if self._augment is not None:
                files = [self._images.files[row] for row in part.tolist()]
                seeds = view_seeds(step, files, self._privacy.views)
                views, labels = augmented(views, labels, seeds, self._augment)
            yield self._prepare(views, labels, step)


def _progress(done: int, steps: int, started: float, images: float) -> Progress:
    seconds = max(time.monotonic() - started, 1e-9)
    return Progress(done, steps, math.nan, images * done / seconds)


def _on_cpu(model: nn.Module) -> _State:
    return {name: cpu_copy(value) for name, value in model.state_dict().items()}
