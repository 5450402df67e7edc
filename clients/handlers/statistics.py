"""`query.statistics`: sums over a site's pixels and labels."""

from dataclasses import replace

from flwr.app import Context, Message, MetricRecord

from clients.handlers.verdict import measured
from clients.site.opened import open_site
from primia_flwr.data.statistics import PixelSums
from primia_flwr.messages import keys


def answer_statistics(message: Message, context: Context) -> Message:
    """Answer with sums that add up over sites, and nothing about one image."""
    site = open_site(context)
    sums = PixelSums.of(site.data.train)
    if site.experiment.data.volumes.fingerprint:
        from primia_flwr.data.layouts.msd import volume_counts  # of sites with volumes only

        counts, _ = volume_counts(site.experiment.data, site.data.train.files)
        sums = replace(sums, volume_counts=tuple(map(float, counts.vector())))
    return measured(
        message, site, MetricRecord({**sums.to_dict(), keys.NUM_VAL: len(site.data.val.cases())})
    )
