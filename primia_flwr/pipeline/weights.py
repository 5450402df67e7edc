"""What simulated sites would weigh in a secure sum, looked at before the first of them trains."""

from collections.abc import Mapping

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import ConfigError
from primia_flwr.training.plan import steps_a_round


def check_weights(experiment: Experiment, images: Mapping[str, int]) -> None:
    """Refuse a secure run in which a site would weigh more than the fixed point has room for.

    `images`: training images by site.

    Raises
    ------
    ConfigError
        Naming the sites, what they weigh, and the bound to set.
    """
    if not experiment.aggregation.secure or experiment.strategy.weighting == "equal":
        return
    most, by_images = experiment.largest_weight, experiment.strategy.weighting == "images"
    weights = {
        site: count if by_images else steps_a_round(experiment.training, count)
        for site, count in images.items()
    }
    heavy = {site: weight for site, weight in weights.items() if weight > most}
    if heavy:
        named = ", ".join(f"{site} {weight}" for site, weight in heavy.items())
        raise ConfigError(
            f"aggregation.max_weight={most}, but by strategy.weighting="
            f"{experiment.strategy.weighting} these sites weigh more: {named}; expected at least "
            f"the largest weight; set aggregation.max_weight={10 ** len(str(max(heavy.values())))}"
        )
