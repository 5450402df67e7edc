"""`primia serve crypto-provider`: deals correlated randomness, sees neither image nor weights."""

import logging
import os
from typing import Any

from primia_flwr.cli.command import Command
from primia_flwr.config.inference import ServeProviderArguments

logger = logging.getLogger(__name__)


def _run(cfg: ServeProviderArguments) -> dict[str, Any]:
    """Serve sessions until Ctrl-C or SIGTERM."""
    from primia_flwr.cli.inference.service import device_of, kit_of, listen, shared
    from primia_flwr.inference.protocol.memory import room_for
    from primia_flwr.inference.service.provider import Provider
    from primia_flwr.inference.transport.listener import Places

    device = device_of(cfg.device)
    credentials = kit_of(cfg.kit, "crypto-provider")

    def on_block(names: str, number: int) -> None:
        logger.info("%s: %d blocks", names, number)

    provider = Provider(
        patience=cfg.patience,
        idle=cfg.idle_hours * 3600,
        on_block=on_block,
        device=device,
        room=room_for(cfg.max_memory),
        threads=cfg.threads or os.cpu_count() or 1,
    )
    half = cfg.max_connections // 2  # so that data owners cannot keep the model owner out
    listen(
        cfg.listen,
        credentials,
        {
            "data-owner": shared(credentials, half, cfg.max_connections_each),
            "model-owner": Places(half, half),
        },
        provider.serve,
        timeout=cfg.patience,
        quiet=cfg.quiet,
    )
    return {"party": str(credentials.own), "stopped": True}


COMMAND = Command(
    words=("serve", "crypto-provider"),
    summary="deal correlated randomness to the parties of encrypted inference, until Ctrl-C",
    examples=("primia serve crypto-provider kit=kit-crypto-provider",),
    config_name="commands/inference/serve_crypto_provider",
    schema=ServeProviderArguments,
    run=_run,
)
