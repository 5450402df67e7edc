"""What a site answers: opens the site, calls the library, packs the reply."""

import logging

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from torch import nn

from clients.handlers.local_round import recipe_of, train_round
from clients.handlers.message import arrived_model, round_config
from clients.mods.dp import answer_privately, refuse_measurements
from clients.mods.dp_statistics import answer_noisy_statistics
from clients.mods.search import searched_site
from clients.site.opened import OpenSite, open_site
from clients.site.state import RoundState
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.data.statistics import PixelSums
from primia_flwr.errors import DivergenceError
from primia_flwr.messages import keys, records
from primia_flwr.secagg.payload.layout import round_to_digits
from primia_flwr.tasks.task import Evaluation
from primia_flwr.training.evaluate import evaluate
from primia_flwr.training.fit import FitResult
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.stopping.site import SiteStopping

logger = logging.getLogger(__name__)


def answer_statistics(message: Message, context: Context) -> Message:
    """Answer `query.statistics`: sums that add up over sites, nothing about one image."""
    site = open_site(context)
    if site.experiment.privacy.enabled:
        return answer_noisy_statistics(message, context)
    sums = PixelSums.of(site.data.train).to_dict()
    metrics = MetricRecord({**sums, keys.NUM_VAL: len(site.data.val)})
    return _reply(message, site, metrics)


def answer_train(message: Message, context: Context) -> Message:
    """Answer `train`: the update and what it cost, or only a verdict where the site rests.

    A site whose training diverges says so as a count, which secure aggregation adds up.
    """
    site = open_site(context)
    if site.experiment.privacy.enabled:
        return answer_privately(message, context)
    site = searched_site(site, message)
    config, number = round_config(message)
    try:
        model, normalisation = arrived_model(site, message)
    except DivergenceError as error:
        return _declined(message, site, error)
    if len(site.data.train) < site.min_round_images:
        return _declined(message, site, "it has too few images for min_round_images")
    incoming = _verdict(site, model, normalisation)
    before = site.state.load(number - 1)
    stopping = SiteStopping.from_dict(before.stopping) if before.stopping else SiteStopping()
    metrics = MetricRecord({keys.NUM_EXAMPLES: len(site.data.train)})
    _put(metrics, keys.INCOMING, incoming)
    early_stopping = site.experiment.training.early_stopping.site
    rests = not stopping.should_train(early_stopping, incoming)
    metrics[keys.RESTING] = int(rests)
    # In a sum the fewer train the more is seen of each, so nobody rests: it is only voted for.
    if rests and not site.experiment.aggregation.secure:
        site.state.save(number, RoundState(before.optimizer, stopping.to_dict()))
        return _reply(message, site, metrics)
    counts = records.floats(config, keys.LABEL_COUNTS)
    recipe = recipe_of(
        site, normalisation, site.experiment.task.label_weights(counts) if sum(counts) else None
    )
    val = site.data.val if _validates_itself(site.experiment) else None
    try:
        result = train_round(site, model, recipe, number, before, train=site.data.train, val=val)
    except DivergenceError as error:
        if site.simulated and not site.experiment.aggregation.secure:
            raise  # on the researcher's own machine, who reads why
        return _declined(message, site, error)
    stopping.record_round(early_stopping, stopped_early=result.stopped_early)
    site.state.save(number, RoundState(result.optimizer_state or {}, stopping.to_dict()))
    _put_result(metrics, site.experiment, result)
    return _reply(message, site, metrics, records.to_arrays(result.state))


def answer_evaluate(message: Message, context: Context) -> Message:
    """Answer `evaluate`: the verdict on the model as it arrives."""
    site = open_site(context)
    refuse_measurements(site, message)
    site = searched_site(site, message)
    try:
        model, normalisation = arrived_model(site, message)
    except DivergenceError as error:
        return _declined(message, site, error)
    metrics = MetricRecord({keys.NUM_EXAMPLES: len(site.data.val)})
    _put(metrics, keys.INCOMING, _verdict(site, model, normalisation))
    return _reply(message, site, metrics)


def _validates_itself(experiment: Experiment) -> bool:
    """Whether a site also scores its own model after training: not after a part of an epoch."""
    training = experiment.training
    return training.sync_every_n_batches == 0 or training.early_stopping.site.patience > 0


def _verdict(site: OpenSite, model: nn.Module, normalisation: Normalisation) -> Evaluation | None:
    """Return the model's evaluation on the site's validation images; None where it has none."""
    if len(site.data.val) == 0:
        return None
    training = site.experiment.training
    return evaluate(
        model,
        site.data.val,
        normalisation=normalisation,
        batch_size=training.batch_size,
        device=site.device,
        precision=training.precision,
    )


def _declined(message: Message, site: OpenSite, why: object) -> Message:
    """Answer that this site takes no part; why stays here."""
    logger.warning("this site declines to %s: %s", message.metadata.message_type, why)
    return _reply(message, site, MetricRecord({keys.DECLINED: 1}))


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
    _put(metrics, keys.LOCAL, result.val)


def _put(metrics: MetricRecord, prefix: str, evaluation: Evaluation | None) -> None:
    if evaluation is not None:
        records.put_evaluation(metrics, prefix, evaluation)


def _reply(
    message: Message, site: OpenSite, metrics: MetricRecord, arrays: ArrayRecord | None = None
) -> Message:
    content = RecordDict(
        {
            keys.METRICS: metrics,
            keys.SITE: ConfigRecord(
                {
                    keys.SITE_NAME: site.name,
                    keys.OUTPUTS: len(site.data.train.classes),
                }
            ),
        }
    )
    if arrays is not None:
        content[keys.ARRAYS] = arrays
    return Message(content=content, reply_to=message)
