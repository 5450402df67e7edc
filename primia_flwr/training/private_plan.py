"""What a run of noisy steps asks of a site, and the steps of one round.

A round is planned with the noise that the run's plan has; nothing here looks at an image.
"""

from dataclasses import dataclass

from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.privacy.accounting.events import SampledGaussian
from primia_flwr.privacy.accounting.filter import ANY_CEILING, SiteFilter
from primia_flwr.privacy.accounting.run_plan import RunPlan, Wish
from primia_flwr.privacy.mechanisms import statistics


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
    def whole_run(self) -> SampledGaussian:
        """What all rounds cost."""
        return self._of(self.total_steps)

    def _of(self, steps: int) -> SampledGaussian:
        return SampledGaussian(
            noise_multiplier=self.noise_multiplier, sampling_rate=self.sampling_rate, steps=steps
        )


def wish_of(cfg: PrivacyConfig, *, units: int, num_rounds: int) -> Wish:
    """Return what a whole run of noisy steps asks of a site with so many units.

    Its noise is the configured one, or the least with which all rounds, as many repeated rounds as
    configured, and noisy statistics stay within the configured epsilon. An adaptive clip costs
    nothing on top: what its counts take, the gradients get less of.
    """
    step = SampledGaussian(
        noise_multiplier=cfg.noise_multiplier or 1.0,
        sampling_rate=min(1.0, cfg.expected_batch / units),
        steps=cfg.steps * (num_rounds + cfg.repeats),
    )
    once = (statistics.cost(cfg.statistics_noise),) if cfg.statistics_noise else ()
    return Wish((*once, step), cfg.epsilon, cfg.check_count_noise)


def simulated_plan(cfg: PrivacyConfig, *, units: int, num_rounds: int) -> RunPlan:
    """Return the plan of a site whose ledger begins with this run, and its ceiling is the run's.

    Raises
    ------
    ConfigError
        If no noise is large enough for the epsilon.
    """
    begun = SiteFilter.planned(epsilon=cfg.epsilon or ANY_CEILING, delta=cfg.delta)
    return wish_of(cfg, units=units, num_rounds=num_rounds).solve(
        begun, ceiling=cfg.epsilon or None
    )


def plan_private(
    cfg: PrivacyConfig, run: RunPlan, *, round_number: int, num_rounds: int
) -> PrivatePlan:
    """Plan round `round_number` (from 1) of `num_rounds`, with the noise of the run's plan."""
    (step,) = (event for event in run.events if isinstance(event, SampledGaussian))
    return PrivatePlan(
        noise_multiplier=step.noise_multiplier,
        sampling_rate=step.sampling_rate,
        steps=cfg.steps,
        start_step=(round_number - 1) * cfg.steps,
        total_steps=cfg.steps * num_rounds,
    )
