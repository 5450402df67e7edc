"""`primia serve model-owner`: classifies images that it never sees."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primia_flwr.cli.command import Command
from primia_flwr.cli.inference.served import served_model
from primia_flwr.config.inference import ServeModelArguments, check_installed, settings_of
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    from primia_flwr.inference.service.model_owner import ServedModel
    from primia_flwr.inference.service.query_log import QueryLog
    from primia_flwr.inference.transport.credentials import Credentials

logger = logging.getLogger(__name__)

_LOG = "queries.jsonl"


def _run(cfg: ServeModelArguments) -> dict[str, Any]:
    """Serve data owners until Ctrl-C or SIGTERM."""
    check_installed(cfg.protocol)
    from primia_flwr.cli.inference.service import device_of, kit_of, listen, shared
    from primia_flwr.inference.protocol.session import Settings
    from primia_flwr.inference.service.model_owner import Server
    from primia_flwr.inference.transport.connect import connect

    device = device_of(cfg.device)
    served = served_model(cfg, device)
    credentials = kit_of(cfg.kit, "model-owner")
    provider = cfg.provider or credentials.address_of("crypto-provider")
    queries, told = _queries(cfg, served, credentials)
    max_batch, takes = _max_batch(cfg, served)

    def on_batch(name: str, number: int) -> None:
        logger.info("%s: %d batches", name, number)

    server = Server(
        served,
        lambda: connect(provider, credentials, expect="crypto-provider", timeout=cfg.patience),
        queries,
        own_fingerprint=credentials.own.fingerprint,
        settings=Settings(**settings_of(cfg), idle=cfg.idle_hours * 3600),
        max_batch=max_batch,
        max_watching=max(cfg.max_sessions - cfg.reserved_sessions, 0),
        on_batch=on_batch,
    )
    listen(
        cfg.listen,
        credentials,
        {"data-owner": shared(credentials, cfg.max_sessions, cfg.max_sessions_each)},
        server.serve,
        timeout=cfg.timeout,
        quiet=cfg.quiet,
        greeting=f"{told}\n{takes}",
    )
    return {"party": str(credentials.own), "queries": str(queries.file), "stopped": True}


def _log_of(cfg: ServeModelArguments) -> Path:
    """Return where queries are written down: with the model, so that another kit counts on."""
    old = (Path(cfg.kit) / _LOG).expanduser().resolve()
    log = Path(cfg.log or Path(cfg.model) / _LOG).expanduser().resolve()
    if not cfg.log and old.exists() and old != log:
        raise ConfigError(
            f"{old} is the query log of an earlier version, and its count must not be lost; "
            f"expected it in the model's folder: mv {old} {log}, or say log={old}"
        )
    return log


def _queries(
    cfg: ServeModelArguments, served: "ServedModel", credentials: "Credentials"
) -> tuple["QueryLog", str]:
    """Return the log with its limits, and what a model owner must know of them beforehand."""
    from primia_flwr.inference.service.extraction import LastLayer, limits_for
    from primia_flwr.inference.service.query_log import QueryLog

    layer, accepted = LastLayer.of(served.lowered(1)), cfg.accept_extraction
    limits = limits_for(layer, limit=cfg.limit, life_limit=cfg.life_limit, accepted=accepted)
    first, most, period = limits.period, limits.life, cfg.limit_hours * 3600
    queries = QueryLog(
        _log_of(cfg), limit=first, period=period, model=served.digest, life_limit=most
    )
    owners = sum(peer.role == "data-owner" for peer in credentials.peers)
    said = "; accept_extraction=true" if accepted else ""
    return queries, (
        f"{layer}; your limit is {first} in {cfg.limit_hours:g} hours and {most} in all, for each "
        f"of {owners} data owners: those that work together add theirs up{said}"
    )


def _max_batch(cfg: ServeModelArguments, served: "ServedModel") -> tuple[int, str]:
    """Return how many images may come at once, and what that takes: the machine must hold it."""
    from primia_flwr.inference.protocol.memory import GB, batch_that_fits, room_for

    memory, room = served.memory(audit=cfg.audit), room_for(cfg.max_memory)
    most = batch_that_fits(memory, sessions=cfg.max_sessions, max_batch=cfg.max_batch, room=room)
    takes = cfg.max_sessions * memory.of_batch(most) / GB
    return most, (
        f"{cfg.max_sessions} sessions of {most} images at once take up to {takes:.2f} GB of "
        f"{room / GB:.1f} GB"
    )


COMMAND = Command(
    words=("serve", "model-owner"),
    summary="classify images of data owners without seeing them, until Ctrl-C",
    examples=(
        "primia serve model-owner model=outputs/a kit=kit-model-owner",
        "primia serve model-owner model=outputs/a kit=kit-model-owner prefetch=20",
        "primia serve model-owner model=outputs/a limit=1000 life_limit=100000 "
        "accept_extraction=true",
    ),
    config_name="commands/inference/serve_model_owner",
    schema=ServeModelArguments,
    run=_run,
)
