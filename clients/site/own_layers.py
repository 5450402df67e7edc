"""A site's own layers: kept from round to round in its private folder, and saved at the end.

Where `model.shared` leaves layers out, the global model has the first model's in their place: a
site puts its own there before it does anything with it, and takes them out before it answers.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from clients.site.kept import KeptRounds
from clients.site.opened import OpenSite
from primia_flwr.config.load import to_yaml
from primia_flwr.errors import DataError
from primia_flwr.models import save_model
from primia_flwr.models.frozen_arrays import own_of
from primia_flwr.pipeline.first_model import model_card
from primia_flwr.storage.atomic import write_result
from primia_flwr.training.normalisation import Normalisation

logger = logging.getLogger(__name__)


def put_own_layers(site: OpenSite, model: nn.Module, number: int) -> None:
    """Put the site's own layers after round `number`, or the last before, into a model.

    A site that has none yet keeps those that came with the model.

    Raises
    ------
    DataError
        If what the site kept cannot be read, or belongs to another model.
    """
    names = own_of(site.experiment.model, model)
    kept = _kept(site).newest(number) if names else {}
    if not kept:
        return
    state = model.state_dict()
    if {k: v.shape for k, v in kept.items()} != {k: tuple(state[k].shape) for k in names}:
        raise DataError(
            f"the layers of its own that site {site.name} kept are those of another model; "
            f"expected {len(names)} arrays of this run's; delete its private state of the run"
        )
    with torch.no_grad():
        for name, values in kept.items():
            state[name].copy_(torch.from_numpy(values))


def keep_own_layers(
    site: OpenSite, model: nn.Module, state: Mapping[str, Tensor], number: int
) -> None:
    """Write the site's own layers of a trained `state` down, before anything is answered."""
    names = own_of(site.experiment.model, model)
    if names:
        _kept(site).save(number, {name: np.asarray(state[name]) for name in sorted(names)})


def save_own_model(site: OpenSite, model: nn.Module, scale: Normalisation, number: int) -> None:
    """Save the run's result with the site's own layers in it, as a run's folder for `evaluate`.

    `site`: into whose private folder it is written. `model`: with the site's own layers. `scale`:
    of its images. `number`: the round of the result.
    """
    folder = _model_folder(site)
    card = model_card(
        site.experiment, tuple(site.data.train.classes), scale, number, site=site.name
    )
    save_model(folder, model, card)
    write_result(folder / "config.yaml", to_yaml(site.experiment))
    logger.info("this site's own model: %s", folder)


def _kept(site: OpenSite) -> KeptRounds:
    return site.kept("own-layers", keep=site.experiment.federation.rounds + 1)


def _model_folder(site: OpenSite) -> Path:
    """Return where a site's own model is saved: beside its state, in a simulation in its folder."""
    return (site.folder if site.simulated else site.state.folder) / "model"
