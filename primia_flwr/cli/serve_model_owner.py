"""`primia serve model-owner`: classifies images that it never sees."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primia_flwr.cli.verb import Verb
from primia_flwr.config.inference import ServeModelArguments, settings_of
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from primia_flwr.crypto.credentials import Credentials
    from primia_flwr.crypto.extraction import LastLayer, Limits
    from primia_flwr.crypto.model_owner import ServedModel

logger = logging.getLogger(__name__)

_LOG = "queries.jsonl"


def run(cfg: ServeModelArguments) -> dict[str, Any]:
    """Serve data owners until Ctrl-C or SIGTERM."""
    from primia_flwr.cli.service import device_of, kit_of, listen, shared
    from primia_flwr.crypto.connect import connect
    from primia_flwr.crypto.extraction import LastLayer, limits_for
    from primia_flwr.crypto.model_owner import Server
    from primia_flwr.crypto.query_log import QueryLog
    from primia_flwr.crypto.session import Settings

    device = device_of(cfg.device)
    served = _served(cfg, device)
    credentials = kit_of(cfg.kit, "model-owner")
    provider = cfg.provider or credentials.address_of("crypto-provider")
    log = _log_of(cfg)
    layer = LastLayer.of(served.lowered(1))
    limits = limits_for(
        layer, limit=cfg.limit, life_limit=cfg.life_limit, accepted=cfg.accept_extraction
    )
    queries = QueryLog(
        log,
        limit=limits.period,
        period=cfg.limit_hours * 3600,
        model=served.digest,
        life_limit=limits.life,
    )

    def on_batch(name: str, number: int) -> None:
        logger.info("%s: %d batches", name, number)

    server = Server(
        served,
        lambda: connect(provider, credentials, expect="crypto-provider", timeout=cfg.patience),
        queries,
        own_fingerprint=credentials.own.fingerprint,
        settings=Settings(**settings_of(cfg), idle=cfg.idle_hours * 3600),
        max_batch=cfg.max_batch,
        max_watching=max(cfg.max_sessions - cfg.reserved_sessions, 0),
        on_batch=on_batch,
    )
    listen(
        cfg.listen,
        credentials,
        {"data-owner": shared(cfg.max_sessions, cfg.max_sessions_each)},
        server.serve,
        timeout=cfg.timeout,
        quiet=cfg.quiet,
        greeting=_told(layer, limits, cfg, credentials),
    )
    return {"party": str(credentials.own), "queries": str(log), "stopped": True}


def _log_of(cfg: ServeModelArguments) -> Path:
    """Return where queries are written down: with the model, so that another kit counts on.

    Raises
    ------
    ConfigError
        If an earlier version left a log in the kit, whose count would be forgotten.
    """
    old = (Path(cfg.kit) / _LOG).expanduser().resolve()
    log = Path(cfg.log or Path(cfg.model) / _LOG).expanduser().resolve()
    if not cfg.log and old.exists() and old != log:
        raise ConfigError(
            f"{old} is the query log of an earlier version, and its count must not be lost; "
            f"expected it in the model's folder: mv {old} {log}, or say log={old}"
        )
    return log


def _told(
    layer: "LastLayer", limits: "Limits", cfg: ServeModelArguments, credentials: "Credentials"
) -> str:
    """Return what a model owner must know of its limits before anybody asks."""
    owners = sum(peer.role == "data-owner" for peer in credentials.peers)
    accepted = "; accept_extraction=true" if cfg.accept_extraction else ""
    return (
        f"{layer}; your limit is {limits.period} in {cfg.limit_hours:g} hours and {limits.life} in "
        f"all, for each of {owners} data owners: those that work together add theirs up{accepted}"
    )


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
        "primia serve model-owner model=outputs/a kit=kit-model-owner prefetch=20",
        "primia serve model-owner model=outputs/a limit=1000 life_limit=100000 "
        "accept_extraction=true",
    ),
    config_name="inference/serve_model_owner",
    schema=ServeModelArguments,
    run=run,
)
