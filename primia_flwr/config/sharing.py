"""What a run may not contain whose sites send a part of their updates, and what to use instead."""

from typing import Any

from primia_flwr.config.rules import Need
from primia_flwr.errors import ConfigError


def check_sharing(experiment: Any) -> None:
    """Refuse what the rest of an experiment makes wrong of a part of an update.

    Raises
    ------
    ConfigError
        Naming the key, why it cannot be, and what to set.
    """
    aggregation, privacy = experiment.aggregation, experiment.privacy
    if not aggregation.shares_a_part:
        return
    share = f"aggregation.share={aggregation.share:g}"
    if aggregation.share_by == "own" and aggregation.secure:
        raise ConfigError(
            f"aggregation.share_by=own with aggregation.name={aggregation.name}; expected random "
            "or change: masks add up only where all sites send the same numbers; or take "
            "aggregation=plain, in which the coordinator sees each site's update"
        )
    if aggregation.share_by == "own" and experiment.strategy.rule.needs is Need.EACH_UPDATE:
        raise ConfigError(
            f"aggregation.share_by=own with strategy.name={experiment.strategy.name}; expected "
            "random or change: a rule that compares the sites' updates takes what one site did not "
            "choose for no change; or take strategy=fedavg"
        )
    if privacy.mode == "dp_sgd_shared":
        raise ConfigError(
            f"{share} with privacy.mode=dp_sgd_shared; expected 1: a unit's part of a step would "
            "come into later steps' sums as well, beside what is clipped and paid for there; take "
            "privacy=dp_sgd or dp_aggregate"
        )
    if experiment.debug.cross_site:
        raise ConfigError(
            f"{share} with debug.cross_site=true; expected 1: the coordinator does not see a "
            "site's whole model"
        )
    if experiment.debug.record_received and aggregation.secure:
        raise ConfigError(
            f"{share} with debug.record_received=true and aggregation.name={aggregation.name}; "
            "expected 1, or aggregation=plain: a masked part is no update of a whole model"
        )
    if experiment.strategy.rule.needs in (Need.ONE_SITE, Need.OWN_MODEL):
        raise ConfigError(
            f"{share} with strategy.name={experiment.strategy.name}; expected 1: a site would go "
            "on from a part of a model; take strategy=fedavg"
        )
