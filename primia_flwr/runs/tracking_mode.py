"""What `tracking.mode` means on this machine: asked before a run, and before anything is sent."""

import netrc
import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlparse

from primia_flwr.config.experiment.tracking import TRACKING_MODES, TrackingConfig
from primia_flwr.errors import TrackingError
from primia_flwr.extras import installed, need

_SECONDS = 5.0


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


def check_server(cfg: TrackingConfig) -> None:
    """Ask the W&B server of an online run whether it is there and takes the key; nothing is sent.

    Raises
    ------
    TrackingError
        If it refuses the key; or, where `tracking.mode=online` was set, if it does not answer.
    """
    if resolve_mode(cfg) != "online":
        return
    import httpx  # half a second

    remedy = "correct it, or set tracking.mode=offline and upload later with wandb sync"
    try:
        answer = httpx.post(
            f"{_server()}/graphql",
            json={"query": "query { viewer { id } }"},
            auth=("api", _key()),
            timeout=_SECONDS,
        )
        refused = answer.status_code in (401, 403) or not answer.json()["data"]["viewer"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        if cfg.mode == "online":
            raise TrackingError(
                f"tracking.mode=online: {_server()} does not answer as a W&B server "
                f"({type(error).__name__}); expected the address in WANDB_BASE_URL and a network; "
                f"{remedy}"
            ) from None
        return
    if refused:
        raise TrackingError(
            f"tracking.mode={cfg.mode}: {_server()} refuses the key; expected a valid "
            f"WANDB_API_KEY; {remedy}"
        )


def has_key() -> bool:
    """Return whether an API key for the W&B server is set, without asking the server."""
    return bool(_key())


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")


def _key() -> str:
    """Return the API key: of the environment, else of the login for this server."""
    if key := os.environ.get("WANDB_API_KEY"):
        return key
    with suppress(OSError, RuntimeError, netrc.NetrcParseError):  # nobody need have a home
        path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
        if known := netrc.netrc(str(path)).authenticators(urlparse(_server()).hostname or ""):
            return known[2] or ""
    return ""
