"""What a message brings: the global model, and which round it is."""

from flwr.app import ArrayRecord, ConfigRecord, Message
from torch import nn

from clients.site.opened import OpenSite
from primia_flwr.errors import DivergenceError, ProtocolError
from primia_flwr.messages import keys, records
from primia_flwr.models.arrival import check_arrived
from primia_flwr.models.empty import empty_model
from primia_flwr.training.normalisation import Normalisation


def arrived_model(site: OpenSite, message: Message) -> tuple[nn.Module, Normalisation]:
    """Return the model that arrived and the pixel normalisation that it expects.

    Raises
    ------
    ProtocolError
        If the message has none.
    DivergenceError
        If the model has numbers that no training makes; it tells of the model only.
    """
    config, arrays = message.content[keys.CONFIG], message.content[keys.ARRAYS]
    if not isinstance(config, ConfigRecord) or not isinstance(arrays, ArrayRecord):
        raise ProtocolError("the message has no arrays or no config; expected both")
    experiment = site.experiment
    model = empty_model(
        experiment.model, outputs=len(site.data.train.classes), channels=experiment.data.channels
    )
    records.load_arrays(model, arrays)
    try:
        check_arrived(model)
    except ProtocolError as error:
        raise DivergenceError(str(error)) from None
    normalisation = Normalisation(
        mean=records.floats(config, keys.PIXEL_MEAN), std=records.floats(config, keys.PIXEL_STD)
    )
    return model, normalisation


def round_config(message: Message) -> tuple[ConfigRecord, int]:
    """Return what a message tells of its round, and the round's number.

    Raises
    ------
    ProtocolError
        If there is no number.
    """
    config = message.content[keys.CONFIG]
    number = config.get(keys.ROUND) if isinstance(config, ConfigRecord) else None
    if not isinstance(config, ConfigRecord) or not isinstance(number, int) or number < 1:
        raise ProtocolError(f"{keys.ROUND}={number!r}; expected the round's number, from 1")
    return config, number
