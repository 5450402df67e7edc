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
        "each site sees": "the global model of every round, and its own images",
        "privacy": experiment.privacy.promise
        or "none: what is seen, and the model, may tell of single patients",
        "tracking": f"{mode}: {_TRACKED[mode].format(model=model)}",
    }


def _weights(weighting: str) -> str:
    return "nothing: all alike" if weighting == "equal" else weighting


def _coordinator(experiment: Experiment) -> str:
    aggregation = experiment.aggregation
    if aggregation.name == "plain":
        return "every site's own update and validation (aggregation=plain)"
    least, colluding = aggregation.least_sites, aggregation.max_colluding
    beside = f", even with {colluding} sites on its side" if colluding else ""
    return f"sums over at least {least} sites, no site's own update{beside} (aggregation=secure)"
