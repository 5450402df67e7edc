"""`primia serve model-owner`: classifies images that it never sees."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primia_flwr.cli.verb import Verb
from primia_flwr.config.inference import ServeModelArguments, settings_of
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from primia_flwr.crypto.model_owner import ServedModel

logger = logging.getLogger(__name__)


def run(cfg: ServeModelArguments) -> dict[str, Any]:
    """Serve data owners until Ctrl-C or SIGTERM."""
    from primia_flwr.cli.service import device_of, kit_of, listen
    from primia_flwr.crypto.connect import connect
    from primia_flwr.crypto.model_owner import Server
    from primia_flwr.crypto.query_log import QueryLog
    from primia_flwr.crypto.session import Settings

    device = device_of(cfg.device)
    served = _served(cfg, device)
    credentials = kit_of(cfg.kit, "model-owner")
    provider = cfg.provider or credentials.address_of("crypto-provider")
    log = Path(cfg.log or Path(cfg.kit) / "queries.jsonl").expanduser().resolve()

    def on_batch(name: str, number: int) -> None:
        logger.info("%s: %d batches", name, number)

    server = Server(
        served,
        lambda: connect(provider, credentials, expect="crypto-provider", timeout=cfg.patience),
        QueryLog(log, limit=cfg.limit, period=cfg.limit_hours * 3600),
        own_fingerprint=credentials.own.fingerprint,
        settings=Settings(**settings_of(cfg), idle=cfg.idle_hours * 3600),
        max_batch=cfg.max_batch,
        max_watching=max(cfg.max_sessions - cfg.reserved_sessions, 0),
        on_batch=on_batch,
    )
    listen(
        cfg.listen,
        credentials,
        ("data-owner",),
        server.serve,
        max_connections=cfg.max_sessions,
        timeout=cfg.timeout,
        quiet=cfg.quiet,
    )
    return {"party": str(credentials.own), "queries": str(log), "stopped": True}


def _served(cfg: ServeModelArguments, device: "torch.device") -> "ServedModel":
    from primia_flwr.crypto.bounds import check_bounds, refuse_old_file
    from primia_flwr.crypto.lowering import COMPARE_BITS
    from primia_flwr.crypto.model_owner import ServedModel
    from primia_flwr.models.saved import load_model, weights_digest

    if not cfg.model:
        raise ConfigError(
            "model is empty; expected the folder of a finished run, e.g. model=outputs/a"
        )
    folder = Path(cfg.model).expanduser().resolve()
    model, card = load_model(folder)
    served = ServedModel(model, card, weights_digest(folder), cfg.compare_bits, device=device)
    plan = served.lowered(1).plan  # a model without an encrypted form is refused here
    if card.activation_bounds is not None:
        check_bounds(card.activation_bounds, plan)
        served.calibrated = card.activation_bounds.images
        return served
    refuse_old_file(folder)
    if cfg.compare_bits < COMPARE_BITS:
        raise ConfigError(
            f"compare_bits={cfg.compare_bits} for a model without activation bounds; expected "
            f"{COMPARE_BITS} or more, or bounds; run primia inference calibrate model={cfg.model} "
            "data.root=<validation images>"
        )
    logger.warning(
        "%s has no activation bounds: that comparisons in a ring of %d bits are exact is not "
        "shown; run primia inference calibrate model=%s data.root=<validation images>",
        folder,
        cfg.compare_bits,
        cfg.model,
    )
    return served


VERB = Verb(
    words=("serve", "model-owner"),
    summary="classify images of data owners without seeing them, until Ctrl-C",
    examples=(
        "primia serve model-owner model=outputs/a kit=kit-model-owner",
        "primia serve model-owner model=outputs/a kit=kit-model-owner prefetch=20 limit=100",
    ),
    config_name="inference/serve_model_owner",
    schema=ServeModelArguments,
    run=run,
)
