"""What the coordinator's control variate alone makes of a model, before anything is trained."""

import copy

import torch
from torch import nn

from clients.site.opened import OpenSite
from primia_flwr.errors import DivergenceError, ProtocolError
from primia_flwr.models.arrival import check_arrived
from primia_flwr.training.plan import batches_an_epoch, plan_round
from primia_flwr.training.schedules import sum_of_rates


def check_steered(site: OpenSite, model: nn.Module, number: int) -> None:
    """Refuse a correction that moves the model to where no training does.

    It is added to every gradient, so over steps whose rates add up to R it moves the model by R
    times itself, away. The moved model gets the bounds of one that arrives.

    Raises
    ------
    DivergenceError
        If a bound is passed; it tells of the model and the correction only.
    """
    if not site.correction:
        return
    cfg, images = site.experiment.training, len(site.data.train)
    plan = plan_round(
        cfg,
        num_examples=images,
        round_number=number,
        num_rounds=site.experiment.federation.rounds,
    )
    rates = sum_of_rates(cfg, plan, plan.num_batches(batches_an_epoch(images, cfg.batch_size)))
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            if name in site.correction:
                parameter.sub_(site.correction[name], alpha=rates)
    try:
        check_arrived(moved)
    except ProtocolError as error:
        raise DivergenceError(f"moved by its control variate, {error}") from None
