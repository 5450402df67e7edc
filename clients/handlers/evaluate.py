"""`evaluate`: the verdict on the model as it arrives."""

from flwr.app import Context, Message, MetricRecord

from clients.handlers.message import arrived_model
from clients.handlers.verdict import declined, measured, put, verdict
from clients.site.opened import open_site
from primia_flwr.errors import DivergenceError
from primia_flwr.messages import keys


def answer_evaluate(message: Message, context: Context) -> Message:
    """Answer `evaluate`: the verdict on the model as it arrives."""
    site = open_site(context)
    try:
        model, normalisation = arrived_model(site, message)
    except DivergenceError as error:
        return declined(message, site, error)
    metrics = MetricRecord({keys.NUM_EXAMPLES: len(site.data.val)})
    put(metrics, keys.INCOMING, verdict(site, model, normalisation))
    return measured(message, site, metrics)
