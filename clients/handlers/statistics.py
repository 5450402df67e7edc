"""`query.statistics`: sums over a site's pixels and labels, and over its volumes if they count."""

from dataclasses import replace

from flwr.app import Context, Message, MetricRecord

from clients.handlers.verdict import measured
from clients.site.opened import OpenSite, open_site
from primia_flwr.data.statistics import PixelSums
from primia_flwr.errors import DataError
from primia_flwr.messages import keys


def answer_statistics(message: Message, context: Context) -> Message:
    """Answer with sums that add up over sites, and nothing about one image."""
    site = open_site(context)
    sums = PixelSums.of(site.data.train)
    if site.experiment.data.volumes.fingerprint:
        sums = replace(sums, volume_counts=_volumes(site))
    return measured(
        message, site, MetricRecord({**sums.to_dict(), keys.NUM_VAL: len(site.data.val.cases())})
    )


def _volumes(site: OpenSite) -> tuple[float, ...]:
    """Count the training volumes of a site that has enough of them."""
    from primia_flwr.data.layouts.msd import volume_counts  # of sites with volumes only

    counts, _ = volume_counts(site.experiment.data, site.data.train.files)
    if counts.cases < site.min_volumes:
        raise DataError(
            f"data.volumes.fingerprint=true with {counts.cases} training volume(s); expected at "
            f"least {site.min_volumes}, the policy's min_fingerprint_volumes: counts of few "
            "volumes are close to one patient's"
        )
    return tuple(map(float, counts.vector()))
