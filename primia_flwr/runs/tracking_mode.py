"""What `tracking.mode` means on this machine: asked before a run, and before anything is sent."""

import netrc
import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlparse

from primia_flwr.config.experiment.tracking import TRACKING_MODES, TrackingConfig
from primia_flwr.errors import TrackingError
from primia_flwr.extras import installed, need


def resolve_mode(cfg: TrackingConfig) -> str:
    """Return `online`, `offline` or `disabled`: what `tracking.mode` means on this machine.

    `auto` follows the environment variable WANDB_MODE where it is set, is `online` where an API
    key is at hand, and `offline` elsewhere; without wandb it is `disabled`.

    Raises
    ------
    MissingExtraError
        If the mode is `online` or `offline` and wandb is not installed.
    TrackingError
        If the mode is `online` and no API key is at hand.
    """
    if cfg.mode in ("online", "offline"):
        need("wandb", f"tracking.mode={cfg.mode}", instead="tracking=disabled")
    if cfg.mode == "auto":
        if not installed("wandb"):
            return "disabled"
        asked = os.environ.get("WANDB_MODE", "auto")
        if asked in TRACKING_MODES and asked != "auto":
            return asked
        return "online" if has_key() else "offline"
    if cfg.mode == "online" and not has_key():
        raise TrackingError(
            "tracking.mode=online without an API key; expected WANDB_API_KEY in the environment or "
            "a login in ~/.netrc; set one (wandb login), or use tracking.mode=offline"
        )
    return cfg.mode


def has_key() -> bool:
    """Return whether an API key for the W&B server is set, without asking the server."""
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    known = None
    with suppress(OSError, netrc.NetrcParseError):
        known = netrc.netrc(str(path)).authenticators(host)
    return bool(known or os.environ.get("WANDB_API_KEY"))
