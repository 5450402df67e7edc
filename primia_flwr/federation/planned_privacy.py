"""What a private run will cost its sites, before anything is trained."""

from collections.abc import Sequence
from typing import Any

from primia_flwr.config.schema import Experiment
from primia_flwr.data.dataset import SiteData
from primia_flwr.federation.secure_records import aggregate_noise
from primia_flwr.privacy.accountant import epsilon
from primia_flwr.privacy.filter import RdpFilter, check_delta
from primia_flwr.privacy.units import units_of
from primia_flwr.training.private import plan_private

_ANY_CEILING = 8.0  # of a filter where the run fixes the noise and asks for no epsilon


def planned_privacy(
    experiment: Experiment, sites: Sequence[SiteData], entries: int
) -> list[dict[str, Any]]:
    """Return one row a simulated site: units, noise, and epsilon by filter and of the fixed plan.

    Parameters
    ----------
    experiment : Experiment
        A private one.
    sites : sequence of SiteData
        Whose units count.
    entries : int
        Of the update, for noise in the aggregate.

    Raises
    ------
    ConfigError
        If delta is not below one over a site's units, or no noise is large enough.
    """
    return [_row(experiment, site, entries) for site in sites]


def _row(experiment: Experiment, site: SiteData, entries: int) -> dict[str, Any]:
    cfg, rounds = experiment.privacy, experiment.federation.rounds
    images = site.train.joined(site.val)
    units = len(units_of(cfg.unit, images.patients, images.digests))
    check_delta(cfg.delta, units)
    counted_by = RdpFilter.planned(epsilon=cfg.epsilon or _ANY_CEILING, delta=cfg.delta)
    row: dict[str, Any] = {"site": site.name, f"{cfg.unit}s": units}
    if cfg.mode == "dp_sgd":
        plan = plan_private(
            cfg, units=units, round_number=1, num_rounds=rounds, counted_by=counted_by
        )
        event: Any = plan.whole_run
        row |= {"sampling_rate": plan.sampling_rate, "steps": plan.total_steps}
        row |= {"noise_multiplier": plan.noise_multiplier}
    else:
        noise = aggregate_noise(experiment, entries)
        event = noise.times(rounds)
        row |= {"rounds": rounds, "noise_multiplier": noise.noise_multiplier}
    found = epsilon([event], delta=cfg.delta)
    return {
        **row,
        "epsilon_by_filter": counted_by.epsilon(event.rdp(counted_by.orders)),
        f"epsilon_if_fixed_({found.accountant})": found.epsilon,
    }
