"""What matters of a run before it starts: the rule, and who gets to see what."""

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.runs.tracking_mode import resolve_mode

_TRACKED = {
    "disabled": "nothing",
    "offline": "files in the run folder; nothing is sent",
    "online": "configuration, curves, scores{model} go to the W&B server as the run goes",
}


def what_matters(experiment: Experiment) -> dict[str, str]:
    """Return one line each on the rule, the aggregation, the privacy, the sites and tracking."""
    strategy, rounds = experiment.strategy, experiment.federation.rounds
    mode = resolve_mode(experiment.tracking)
    model = " and the model" if experiment.tracking.model else ""
    return {
        "rule": f"{strategy.name}, sites weighted by {_weights(strategy.weighting)}, "
        f"{rounds} rounds",
        "the coordinator sees": _coordinator(experiment),
        "each site sees": f"{_site(experiment)}, and its own images{_own(experiment)}",
        "privacy": experiment.privacy.promise
        or "none: what is seen, and the model, may tell of single patients",
        "tracking": f"{mode}: {_TRACKED[mode].format(model=model)}",
    }


def _weights(weighting: str) -> str:
    return "nothing: all alike" if weighting == "equal" else weighting


def _coordinator(experiment: Experiment) -> str:
    aggregation, part = experiment.aggregation, _part(experiment)
    if aggregation.relayed:
        return _relay(experiment)
    if aggregation.name == "plain":
        return f"{part}every site's own update and validation (aggregation=plain)"
    if aggregation.asynchronous and not aggregation.buffered:
        own = "noisy update" if experiment.reports_nothing else "own update and validation"
        return f"every site's {own}, and when it is ready (aggregation=asynchronous)"
    least, colluding = aggregation.least_sites, aggregation.max_colluding
    beside = f", even with {colluding} sites on its side" if colluding else ""
    ready = ", and when each update is ready" if aggregation.buffered else ""
    return (
        f"{part}sums over at least {least} sites, no site's own update{beside}{ready} "
        f"(aggregation={aggregation.name})"
    )


def _relay(experiment: Experiment) -> str:
    aggregation = experiment.aggregation
    if aggregation.sealed:
        end = "the model of the end" if aggregation.reveal == "end" else "no model at all"
        return f"who trains when, sealed bytes, and {end} (aggregation=relay, sealed)"
    beside = "no validation" if experiment.reports_nothing else "its validation"
    return f"every site's model after its training, and {beside} (aggregation=relay)"


def _site(experiment: Experiment) -> str:
    strategy = experiment.strategy
    if experiment.aggregation.relayed:
        return "the model of the site that trained before it"
    if experiment.shows_single_updates:
        return "models whose differences may show one other site's update (aggregation.buffer)"
    if strategy.keeps_models:
        others = ", at the end those of all others" if strategy.vote == "insulearn" else ""
        return f"its own model of every round{others}"
    return "the global model of every round"


def _own(experiment: Experiment) -> str:
    """Say which layers stay at each site, where some do."""
    own = {"no_norm": "norm layers", "body": "classifier"}.get(experiment.model.shared)
    return f"; its own {own} it sends to nobody" if own else ""


_CHOSEN = {
    "random": "drawn anew each round, alike at all sites",
    "change": "half of them those that changed most, alike at all sites",
    "own": "each site's own largest, which shows each site's choice: aggregation=plain only",
}


def _part(experiment: Experiment) -> str:
    """Say which part of an update is sent, where it is not all of it."""
    aggregation = experiment.aggregation
    if not aggregation.shares_a_part:
        return ""
    chosen = _CHOSEN[aggregation.share_by]
    return f"{aggregation.share:.4g} of an update's numbers a round ({chosen}), of which "
