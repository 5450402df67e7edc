"""The last model of a sealed relay, saved at each site where the coordinator gets none."""

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
from flwr.app import Context

from clients.site.opened import open_site
from clients.site.own_layers import save_own_model
from primia_flwr.messages.held import held
from primia_flwr.messages.records import load_arrays
from primia_flwr.models.arrival import check_arrived
from primia_flwr.models.empty import empty_model
from primia_flwr.training.normalisation import Normalisation


def save_last_model(context: Context, arrays: Mapping[str, npt.NDArray[Any]], cycle: int) -> None:
    """Save a model with its card in the site's private folder, as a run's folder.

    Raises
    ------
    ProtocolError
        If it does not fit the configured model, or has numbers that no training makes.
    """
    site = open_site(context)
    cfg = site.experiment
    model = empty_model(cfg.model, outputs=len(site.data.train.classes), channels=cfg.data.channels)
    load_arrays(model, held(dict(arrays)))
    check_arrived(model)
    scale, channels = cfg.data.normalisation, cfg.data.channels
    repeat = channels if len(scale.mean) == len(scale.std) == 1 else 1
    normalisation = Normalisation(tuple(scale.mean) * repeat, tuple(scale.std) * repeat)
    save_own_model(site, model.eval(), normalisation, cycle)
