"""`train`: one round on a site's own images, after a verdict on the model as it arrives."""

from collections.abc import Sequence

from flwr.app import ConfigRecord, Context, Message, MetricRecord

from clients.handlers.first_weights import check_known_weights
from clients.handlers.local_round import recipe_of, train_round
from clients.handlers.message import arrived_model, round_config
from clients.handlers.steered import check_steered
from clients.handlers.verdict import declined, measured, put, verdict
from clients.leaving import leaving
from clients.site.opened import open_site
from clients.site.own_layers import keep_own_layers, put_own_layers
from clients.site.state import RoundState
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import DivergenceError
from primia_flwr.messages import keys, records
from primia_flwr.models.frozen_arrays import frozen_of, without
from primia_flwr.pipeline.weights import planned_weight
from primia_flwr.secagg.payload.layout import round_to_digits
from primia_flwr.training.fit import FitResult
from primia_flwr.training.stopping.site import SiteStopping


def answer_train(message: Message, context: Context) -> Message:
    """Answer `train`: the update and what it cost, or only a verdict where the site rests.

    A site whose training diverges says so as a count, which secure aggregation adds up.
    """
    site = open_site(context)
    config, number = round_config(message)
    try:
        model, normalisation = arrived_model(site, message)
        check_steered(site, model, number)
        check_known_weights(site, message, number)
        put_own_layers(site, model, number - 1)
    except DivergenceError as error:
        return declined(message, site, error)
    if len(site.data.train) < site.min_round_images:
        return declined(message, site, "it has too few images for min_round_images")
    most = site.experiment.largest_weight
    weight = planned_weight(site.experiment, len(site.data.train))
    if weight > most and round_to_digits(weight, site.count_digits) > most:  # as it would be sent
        return declined(message, site, "it weighs more than aggregation.max_weight")
    incoming = verdict(site, model, normalisation)
    before = site.state_before(number)
    stopping = SiteStopping.from_dict(before.stopping) if before.stopping else SiteStopping()
    metrics = MetricRecord({keys.NUM_EXAMPLES: len(site.data.train)})
    put(metrics, keys.INCOMING, incoming)
    early_stopping = site.experiment.training.early_stopping.site
    rests = not stopping.should_train(early_stopping, incoming)
    metrics[keys.RESTING] = int(rests)
    # Where nobody may rest it is only voted for.
    if rests and leaving(site.experiment).may_rest:
        site.state.save(number, RoundState(before.optimizer, stopping.to_dict()))
        return measured(message, site, metrics)
    recipe = recipe_of(site, normalisation, _label_weights(site.experiment, config))
    val = site.data.val if _validates_itself(site.experiment) else None
    try:
        result = train_round(site, model, recipe, number, before, train=site.data.train, val=val)
    except DivergenceError as error:
        if site.simulated and leaving(site.experiment).says_why:
            raise  # on the researcher's own machine, who reads why
        return declined(message, site, error)
    stopping.record_round(early_stopping, stopped_early=result.stopped_early)
    site.state.save(number, RoundState(result.optimizer_state or {}, stopping.to_dict()))
    _put_result(metrics, site.experiment, result)
    keep_own_layers(site, model, result.state, number)
    trained = without(result.state, frozen_of(site.experiment.model, model))
    return measured(message, site, metrics, records.to_arrays(trained))


def _label_weights(experiment: Experiment, config: ConfigRecord) -> Sequence[float] | None:
    unknown = experiment.reports_nothing  # of a sealed relay nobody counts the labels
    counts = () if unknown else records.floats(config, keys.LABEL_COUNTS)
    return experiment.task.label_weights(counts) if sum(counts) else None


def _validates_itself(experiment: Experiment) -> bool:
    """Whether a site also scores its own model after training: not after a part of an epoch."""
    training = experiment.training
    return training.sync_every_n_batches == 0 or training.early_stopping.site.patience > 0


def _put_result(metrics: MetricRecord, experiment: Experiment, result: FitResult) -> None:
    weights = {"images": result.num_examples, "batches": result.num_batches, "equal": 1}
    weight = weights[experiment.strategy.weighting]
    digits = experiment.strategy.weight_digits
    metrics[keys.WEIGHT] = float(round_to_digits(weight, digits) if digits else weight)
    metrics[keys.NUM_BATCHES] = int(result.num_batches)
    metrics["epochs"] = float(result.epochs)
    metrics["stopped-early"] = int(result.stopped_early)
    metrics["seconds"] = float(result.seconds)
    metrics["images-per-second"] = float(result.images_per_second)
    metrics["train-loss"] = float(result.train_loss)
    put(metrics, keys.LOCAL, result.val)
