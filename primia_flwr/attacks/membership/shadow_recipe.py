"""How a shadow model is trained: by the attacked run's recipe, in one place, on fewer images.

It takes as many passes over its images as the run took over its own, up to the round that the
run's model comes from, with the learning rates of those steps; nothing is validated. In place of a
federation there is one training on pooled images: whoever attacks cannot repeat the sites' part.
A run with DP-SGD is repeated with as much noise on the mean gradient as the average over its sites
had; the noise of an aggregate (`dp_aggregate`) is not repeated, and the report says so.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor, nn

from primia_flwr.attacks.membership.attacked_run import AttackedRun, TargetSize
from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.config.experiment.training import EarlyStoppingConfig, SiteStoppingConfig
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.training.device import derive_seed, pick_device
from primia_flwr.training.fit import fit
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.plan import LocalPlan, batches_an_epoch, steps_a_round
from primia_flwr.training.private import fit_private, unit_names
from primia_flwr.training.private_plan import PrivatePlan, plan_private, simulated_plan
from primia_flwr.training.recipe import Recipe
from primia_flwr.training.round import Progress

_OnProgress = Callable[[Progress], None]


class ShadowRecipe:
    """Trains one shadow model after another."""

    def __init__(self, run: AttackedRun, target: TargetSize, *, seed: int, device: str) -> None:
        self._run, self._target, self._seed = run, target, seed
        self._device = pick_device(device, key="device")

    def image_passes(self, images: int) -> int:
        """Return how many images (repeats counted) a training on `images` images computes with."""
        if self._private:
            privacy = self._run.experiment.privacy
            drawn = privacy.expected_batch * self._target.sites * images / self._target.images
            return round(drawn * privacy.views * privacy.steps * self._rounds)
        a_pass = batches_an_epoch(images, self._run.experiment.training.batch_size)
        return round(self.plan(images).max_batches / a_pass * images)  # type: ignore[operator]

    def plan(self, images: int) -> LocalPlan:
        """Return the steps on `images` images: the run's number of passes, and its schedule."""
        cfg = self._run.experiment.training
        a_site = math.ceil(self._target.images / self._target.sites)
        passes = steps_a_round(cfg, a_site) / batches_an_epoch(a_site, cfg.batch_size)
        a_round = passes * batches_an_epoch(images, cfg.batch_size)
        total = round(a_round * self._run.experiment.federation.rounds)
        return LocalPlan(0, max(1, total), max_batches=max(1, round(a_round * self._rounds)))

    def train(
        self, model: nn.Module, images: LabelledImages, index: int, on_progress: _OnProgress | None
    ) -> dict[str, Tensor]:
        """Train shadow model `index` in place and return its state.

        Raises
        ------
        PrimiaError
            As `fit` and `fit_private`.
        """
        recipe = self._recipe(index)
        if not self._private:
            plan = self.plan(len(images))
            return fit(model, images, None, recipe, plan, on_progress=on_progress).state
        steps, privacy = self.private_plan(images), self.private_config(images)
        return fit_private(model, images, recipe, privacy, steps, on_progress=on_progress).state

    def private_config(self, images: LabelledImages) -> PrivacyConfig:
        """Return the run's, with as much noise on the share below an adaptive clip as on the mean.

        That share is counted noisily as the gradients are summed, and both are over the batch.
        """
        privacy, ratio = self._run.experiment.privacy, self._noise_ratio(images)
        if not privacy.clip_quantile:
            return privacy
        return replace(
            privacy,
            noise_multiplier=privacy.noise_multiplier * ratio,
            clip_count_noise=privacy.count_noise * ratio,
        )

    def private_plan(self, images: LabelledImages) -> PrivatePlan:
        """Return noisy steps with the sampling rate of the sites, and their noise on the mean.

        The mean of m sites with noise s/b each (s: noise multiplier, b: expected batch) has noise
        s / (b sqrt(m)); one training with expected batch B has it with multiplier s B / (b sqrt m).
        """
        privacy, rounds = self._run.experiment.privacy, self._run.experiment.federation.rounds
        run = simulated_plan(privacy, units=self._site_units, num_rounds=rounds)
        one = plan_private(privacy, run, round_number=1, num_rounds=rounds)
        return PrivatePlan(
            noise_multiplier=one.noise_multiplier * self._noise_ratio(images),
            sampling_rate=one.sampling_rate,
            steps=privacy.steps * self._rounds,
            start_step=0,
            total_steps=one.total_steps,
        )

    def _noise_ratio(self, images: LabelledImages) -> float:
        """Return B / (b sqrt m): with one sampling rate, the ratio of the batches is the units'."""
        units = len(set(unit_names(self._run.experiment.privacy.unit, images)))
        return units / (self._site_units * math.sqrt(self._target.sites))

    @property
    def _site_units(self) -> int:
        return max(1, round(self._target.units / self._target.sites))

    @property
    def _private(self) -> bool:
        return self._run.experiment.privacy.mode == "dp_sgd"

    @property
    def _rounds(self) -> int:
        return max(1, self._run.card.round)

    def _recipe(self, index: int) -> Recipe:
        experiment, card = self._run.experiment, self._run.card
        stopping = EarlyStoppingConfig(
            SiteStoppingConfig(), experiment.training.early_stopping.federation
        )
        return Recipe(
            replace(experiment.training, proximal_mu=0.0, early_stopping=stopping),
            Normalisation(card.mean, card.std),
            derive_seed(self._seed, "shadow", index),
            augmentation=experiment.data.augmentation,
            mixup=experiment.data.mixup,
            device=self._device,
        )
