"""What a private run will cost its sites, before anything is trained."""

from collections.abc import Sequence
from typing import Any

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.data.dataset import SiteData
from primia_flwr.messages.secure import aggregate_noise
from primia_flwr.privacy.accounting.accountant import epsilon
from primia_flwr.privacy.accounting.filter import ANY_CEILING, SiteFilter, check_delta
from primia_flwr.privacy.accounting.run_plan import Wish, spent_by
from primia_flwr.privacy.mechanisms.units import units_of
from primia_flwr.training.private_plan import plan_private, simulated_plan


def planned_privacy(
    experiment: Experiment, sites: Sequence[SiteData], entries: int
) -> list[dict[str, Any]]:
    """Return one row a simulated site: units, noise, and what all of its plan costs.

    By the filter of a ledger that begins with it, and as a plan that is fixed beforehand, repeated
    rounds included.

    `experiment`: without privacy there are no rows. `sites`: whose units count. `entries`: of the
    update, for noise in the aggregate.

    Raises
    ------
    ConfigError
        If delta is not below one over a site's units, or no noise is large enough.
    """
    if not experiment.privacy.protected_unit:
        return []
    return [_row(experiment, site, entries) for site in sites]


def _row(experiment: Experiment, site: SiteData, entries: int) -> dict[str, Any]:
    cfg, rounds = experiment.privacy, experiment.federation.rounds
    images = site.train.joined(site.val)
    units = len(units_of(cfg.unit, images.patients, images.digests))
    check_delta(cfg.delta, units)
    row: dict[str, Any] = {"site": site.name, f"{cfg.unit}s": units}
    counted_by = SiteFilter.planned(epsilon=cfg.epsilon or ANY_CEILING, delta=cfg.delta)
    if cfg.mode == "dp_sgd":
        run = simulated_plan(cfg, units=units, num_rounds=rounds)
        plan = plan_private(cfg, run, round_number=1, num_rounds=rounds)
        row |= {"sampling_rate": plan.sampling_rate, "steps": plan.total_steps}
        row |= {"noise_multiplier": plan.noise_multiplier}
    else:
        noise = aggregate_noise(experiment, experiment.num_sent(entries))
        wish = Wish((noise.times(rounds + cfg.repeats),))
        run = wish.solve(counted_by, ceiling=cfg.epsilon or None)
        if cfg.sampling_rate:
            row |= {"sampling_rate": cfg.sampling_rate}
        row |= {"rounds": rounds, "noise_multiplier": noise.noise_multiplier}
    found = epsilon(run.events, delta=cfg.delta)
    return {
        **row,
        "epsilon_by_filter": counted_by.epsilon(spent_by([run], counted_by)),
        f"epsilon_if_fixed_({found.accountant})": found.epsilon,
    }
