"""A site's batches in a round in proportion to its images (Balachandar et al. 2020)."""

from dataclasses import replace

from flwr.app import ConfigRecord, Context, Message

from clients.site.opened import SiteContext, open_site
from primia_flwr.errors import ProtocolError
from primia_flwr.messages import keys, records


def in_proportion(message: Message, context: Context) -> Context:
    """Return the context of a site that takes its share of the batches.

    With n_k of the n images at one of K sites: `training.sync_every_n_batches` times n_k K / n,
    rounded, at least 1.

    Raises
    ------
    ProtocolError
        If the message does not tell the label counts of all sites.
    """
    site = open_site(context)
    config = message.content.config_records.get(keys.CONFIG, ConfigRecord())
    experiment = site.experiment
    images = experiment.task.labelled(records.floats(config, keys.LABEL_COUNTS))
    if not images > 0:
        raise ProtocolError(
            f"{keys.LABEL_COUNTS} of {images:g} images; expected those of all sites"
        )
    share = len(site.data.train) * len(experiment.federation.sites) / images
    training = experiment.training
    batches = max(1, round(training.sync_every_n_batches * share))
    least = site.min_round_images
    if batches * training.batch_size < least:
        raise ProtocolError(
            f"{batches} batches of {training.batch_size} images; expected at least "
            f"min_round_images={least} of this site in a round"
        )
    training = replace(training, sync_every_n_batches=batches)
    return SiteContext(context, replace(site, experiment=replace(experiment, training=training)))
