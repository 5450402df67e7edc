"""The model that a model owner serves: in which ring, and what is known of it."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from primia_flwr.config.inference import MAX_AUDITED_BITS, ServeModelArguments
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from primia_flwr.inference.lowering.lowering import Lowered
    from primia_flwr.inference.service.model_owner import ServedModel
    from primia_flwr.models.activation_bounds import ActivationBounds

logger = logging.getLogger(__name__)

_SAFE = 64  # no number is outside of it
_CALIBRATE = "run primia inference calibrate model=%s data.root=<validation images>"


def served_model(cfg: ServeModelArguments, device: "torch.device") -> "ServedModel":
    """Return the model of a finished run, ready to be served.

    Raises
    ------
    PrimiaError
        If it cannot be read, has no encrypted form, loses precision by its own card, or the ring
        is too small.
    """
    from primia_flwr.inference.lowering.bounds import check_bounds, refuse_old_file, ring_for
    from primia_flwr.inference.lowering.lowering import lower
    from primia_flwr.inference.service.model_owner import ServedModel
    from primia_flwr.models.card import weights_digest
    from primia_flwr.models.saved import load_model

    if not cfg.model:
        raise ConfigError(
            "model is empty; expected the folder of a finished run, e.g. model=outputs/a"
        )
    folder = Path(cfg.model).expanduser().resolve()
    model, card = load_model(folder, single=True)
    bounds = card.activation_bounds
    # A model without an encrypted form is refused here.
    lowered = lower(model, (1, card.channels, card.image_size, card.image_size))
    bits = cfg.compare_bits or ring_for(bounds, lowered.plan, safe=_safe_ring(cfg, lowered))
    served = ServedModel(model, card, weights_digest(folder), bits, device=device)
    if bounds is not None:
        check_bounds(bounds, served.lowered(1).plan)
    if bounds is None or bounds.precision is None:
        refuse_old_file(folder)
        _check_uncalibrated(cfg, bits, folder, bounds)
        return served
    return _with_calibration(served, bounds)


def _safe_ring(cfg: ServeModelArguments, lowered: "Lowered") -> int:
    """Return the ring of a model that is not calibrated.

    With audits it is the largest that can be audited; what leaves it, an audit finds.
    """
    from primia_flwr.inference.overflow.limits import LIMIT_BITS, largest_ring

    if not cfg.audit:
        return _SAFE
    return max(min(largest_ring(lowered.weights), MAX_AUDITED_BITS), LIMIT_BITS)


def _with_calibration(served: "ServedModel", bounds: "ActivationBounds") -> "ServedModel":
    """Take what the model's card says of it, where that is good enough."""
    from primia_flwr.inference.lowering.precision import check_precision
    from primia_flwr.inference.protocol.plausibility import limit_of

    if bounds.precision is not None:
        check_precision(bounds.precision, bounds.images)
        served.calibrated = bounds.images
        served.score_limit = limit_of(bounds.precision.largest_score)
    return served


def _check_uncalibrated(
    cfg: ServeModelArguments, bits: int, folder: Path, bounds: "ActivationBounds | None"
) -> None:
    """Say that nothing is known of a model; refuse rings that are small without a reason."""
    from primia_flwr.inference.lowering.lowering import COMPARE_BITS

    if bounds is None and bits < COMPARE_BITS:
        raise ConfigError(
            f"compare_bits={bits} for a model without activation bounds; expected {COMPARE_BITS} "
            f"or more, or bounds; {_CALIBRATE % cfg.model}"
        )
    logger.warning(
        "%s is not calibrated%s: nothing shows that it says in fixed point what it says in the "
        "clear, nor that comparisons in a ring of %d bits are exact; data owners are told so; "
        + _CALIBRATE,
        folder,
        "" if bounds is None else " by this version",
        bits,
        cfg.model,
    )
