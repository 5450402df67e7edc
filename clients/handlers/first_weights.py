"""What a site asks of the weights that a private run begins with at it.

Its patients may have trained them before, which no epsilon of the run counts. So the model of the
run's first request is what the public seed gives, or the site's own policy lists it.
"""

from flwr.app import Message

from clients.site.opened import OpenSite
from primia_flwr.errors import PrivacyBudgetError
from primia_flwr.messages import keys, records
from primia_flwr.messages.secure import numpy_arrays
from primia_flwr.models.provenance import arrays_digest, same_arrays
from primia_flwr.pipeline.first_model import first_model


def check_first_weights(site: OpenSite, message: Message, number: int) -> None:
    """Refuse to begin with weights that this site's patients may be in.

    Parameters
    ----------
    site : OpenSite
        A simulated one is let through: its coordinator has asked the weights' card, and it has no
        policy.
    message : Message
        The first request for an update that a run makes of this site.
    number : int
        Its round.

    Raises
    ------
    PrivacyBudgetError
        If the weights are neither.
    """
    if site.simulated:
        return
    arrived = numpy_arrays(message.content.array_records[keys.ARRAYS])
    digest = arrays_digest(arrived)
    if digest in site.initial_weights:
        return
    experiment = site.experiment
    if experiment.model.weights == "none":
        drawn = first_model(experiment, len(site.data.train.classes))
        if same_arrays(arrived, numpy_arrays(records.to_arrays(drawn.state_dict()))):
            return
    raise PrivacyBudgetError(
        f"the model of round {number}, with which this private run begins here, has SHA-256 "
        f"{digest} and is not what the run's seed gives; expected random weights (model.weights="
        "none, from round 1 on), or a digest in this site's initial_weights: this site's patients "
        "may have been in its training, which no epsilon of this run counts; list the digest if "
        "they certainly were not"
    )
