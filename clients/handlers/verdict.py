"""A site's verdict on a model, on its own validation images."""

import logging

from flwr.app import ArrayRecord, Message, MetricRecord
from torch import nn

from clients.reply import reply_to
from clients.site.opened import OpenSite
from primia_flwr.messages import keys, records
from primia_flwr.tasks.task import Evaluation
from primia_flwr.training.evaluate import evaluate
from primia_flwr.training.normalisation import Normalisation

logger = logging.getLogger(__name__)


def verdict(site: OpenSite, model: nn.Module, normalisation: Normalisation) -> Evaluation | None:
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


def declined(message: Message, site: OpenSite, why: object) -> Message:
    """Answer that this site takes no part; why stays here."""
    logger.warning("this site declines to %s: %s", message.metadata.message_type, why)
    return measured(message, site, MetricRecord({keys.DECLINED: 1}))


def put(metrics: MetricRecord, prefix: str, evaluation: Evaluation | None) -> None:
    """Add an evaluation to what is reported, where there is one."""
    if evaluation is not None:
        records.put_evaluation(metrics, prefix, evaluation)


def measured(
    message: Message, site: OpenSite, metrics: MetricRecord, arrays: ArrayRecord | None = None
) -> Message:
    """Return a reply with what a site measured and, where there is one, its update."""
    parts = {keys.METRICS: metrics, keys.ARRAYS: arrays}
    return reply_to(message, site.name, parts, outputs=len(site.data.train.classes))
