"""`evaluate`: the verdict on the model as it arrives."""

from flwr.app import Context, Message, MetricRecord

from clients.handlers.message import arrived_model, round_config
from clients.handlers.verdict import declined, measured, put, verdict
from clients.site.opened import open_site
from clients.site.own_layers import put_own_layers, save_own_model
from primia_flwr.errors import DivergenceError, ProtocolError
from primia_flwr.messages import keys


def answer_evaluate(message: Message, context: Context) -> Message:
    """Answer `evaluate`: the verdict on the model as it arrives, the site's own layers in it."""
    site = open_site(context)
    config, number = round_config(message)
    try:
        model, normalisation = arrived_model(site, message)
    except DivergenceError as error:
        return declined(message, site, error)
    own_round = config.get(keys.OWN_ROUND, number)
    if type(own_round) is not int:
        raise ProtocolError(f"{keys.OWN_ROUND}={own_round!r:.60}; expected a round's number")
    put_own_layers(site, model, own_round)
    if keys.RESULT in config and site.experiment.model.keeps_layers:
        save_own_model(site, model, normalisation, own_round)
    metrics = MetricRecord({keys.NUM_EXAMPLES: len(site.data.val.cases())})
    put(metrics, keys.INCOMING, verdict(site, model, normalisation))
    return measured(message, site, metrics)
