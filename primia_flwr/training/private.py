"""Train a model for one round with clipped, noisy steps: DP-SGD at one site.

Every step draws units of privacy at random, clips what each of them wants, adds noise, and divides
by the batch that is expected, not by the one that came. What comes out is the model and the
optimiser's state, both functions of noisy sums only; losses and counts are never returned.

Source: Abadi et al. 2016, Algorithm 1; De et al. 2022 for several views of a unit.
"""

from dataclasses import dataclass

from primia_flwr.config.privacy import PrivacyConfig
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.privacy.accountant import noise_multiplier_for
from primia_flwr.privacy.events import SampledGaussian
from primia_flwr.privacy.filter import RdpFilter


@dataclass(frozen=True)
class PrivatePlan:
    """The noisy steps of one round at one site.

    `start_step`: steps of the rounds before; `total_steps`: of all rounds.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    start_step: int
    total_steps: int

    @property
    def event(self) -> SampledGaussian:
        """What the round costs."""
        return self._of(self.steps)

    @property
    def to_come(self) -> SampledGaussian:
        """What the run costs from this round on."""
        return self._of(self.total_steps - self.start_step)

    def _of(self, steps: int) -> SampledGaussian:
        return SampledGaussian(
            noise_multiplier=self.noise_multiplier, sampling_rate=self.sampling_rate, steps=steps
        )


def plan_private(
    cfg: PrivacyConfig, *, units: int, round_number: int, num_rounds: int, counted_by: RdpFilter
) -> PrivatePlan:
    """Plan round `round_number` (from 1) of `num_rounds` at a site with so many units.

    The noise is the configured one, or the least with which the whole run stays within the
    configured epsilon as the site's own filter counts.

    Raises
    ------
    ConfigError
        If no noise is large enough for the epsilon.
    """
    total = cfg.steps * num_rounds
    rate = min(1.0, cfg.expected_batch / units)
    noise = cfg.noise_multiplier or noise_multiplier_for(
        epsilon=cfg.epsilon,
        delta=counted_by.delta,
        sampling_rate=rate,
        steps=total,
        by=counted_by,
    )
    return PrivatePlan(noise, rate, cfg.steps, (round_number - 1) * cfg.steps, total)


def unit_names(unit: str, images: LabelledImages) -> tuple[str, ...]:
    """Return the unit of every image: its patient, or its own file."""
    return images.patients if unit == "patient" else images.files
