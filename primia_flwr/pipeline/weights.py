"""What sites would weigh in a secure sum, looked at before the first of them trains."""

import math
from collections.abc import Mapping

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import ConfigError
from primia_flwr.secagg.payload.layout import round_to_digits
from primia_flwr.training.plan import steps_a_round

_SITES_DIGITS = range(2, 10)
"""To how many significant digits sites round their weights; those with one may fit all the same."""


def check_weights(experiment: Experiment, images: Mapping[str, int]) -> None:
    """Refuse a secure run in which a site would weigh more than the fixed point has room for.

    `images`: training images by site.

    Raises
    ------
    ConfigError
        Naming the sites, what they weigh, and the bound to set.
    """
    most = experiment.largest_weight
    weights = {site: planned_weight(experiment, count) for site, count in images.items()}
    heavy = {site: weight for site, weight in weights.items() if weight > most}
    if heavy:
        named = ", ".join(f"{site} {weight}" for site, weight in heavy.items())
        raise ConfigError(
            f"aggregation.max_weight={most}, but by strategy.weighting="
            f"{experiment.strategy.weighting} these sites weigh more: {named}; expected at least "
            f"the largest weight; set aggregation.max_weight={_room_for(max(heavy.values()))}"
        )


def check_mean_weight(experiment: Experiment, images: float, sites: int) -> None:
    """Refuse a secure run whose sites weigh more on average than one may, by their number alone.

    `images`: training images of all sites together.

    Raises
    ------
    ConfigError
        Naming the mean, and the bound to set.
    """
    most, mean = experiment.largest_weight, planned_weight(experiment, math.floor(images / sites))
    rounded = min(round_to_digits(mean, digits) for digits in _SITES_DIGITS)
    if rounded > most:
        raise ConfigError(
            f"aggregation.max_weight={most}, but by strategy.weighting="
            f"{experiment.strategy.weighting} {sites} sites weigh {mean} on average; expected at "
            f"least the largest weight; set aggregation.max_weight={_room_for(mean)} or more"
        )


def planned_weight(experiment: Experiment, images: int) -> int:
    """Return the weight of a site with that many training images; 0 where no bound is on it."""
    if not experiment.aggregation.secure or experiment.strategy.weighting == "equal":
        return 0
    by_images, digits = experiment.strategy.weighting == "images", experiment.strategy.weight_digits
    weight = images if by_images else steps_a_round(experiment.training, images)
    return round_to_digits(weight, digits) if digits else weight


def _room_for(weight: int) -> int:
    return int(10 ** len(str(weight)))
