"""One error for all: what a deployed site tells the coordinator when it cannot answer.

The gate, which the hospital installed, sees to the same. Here the reason is written into the site's
log while it is still known.
"""

from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable

from primia_flwr.errors import SiteFailure
from primia_flwr.site.log import SiteLog
from primia_flwr.site.policy import load_policy


def discretion_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Answer a message; any error of a deployed site becomes the one that leaves it.

    Raises
    ------
    SiteFailure
        At a deployed site, whatever went wrong.
    Exception
        In a simulation, whose sites are the researcher's own: what went wrong.
    """
    site_file = context.node_config.get("site-file")
    try:
        return call_next(message, context)
    except Exception as error:
        if site_file is None:
            raise
        _note(Path(str(site_file)), message, error)
    raise SiteFailure


def _note(site_file: Path, message: Message, error: Exception) -> None:
    """Write the reason into the site's log; where that fails, to the process's output."""
    try:
        log = SiteLog(load_policy(site_file).log_file)
        reason = f"{type(error).__name__}: {error}"
        log.append("failed", message=message.metadata.message_type, reason=reason)
    except Exception as unwritten:
        print(f"[site] {type(error).__name__}: {error}; not logged: {unwritten}", flush=True)
