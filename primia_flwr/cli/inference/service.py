"""What the listening parties of encrypted inference do alike: listen until told to stop."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.logging import RichHandler

from primia_flwr.errors import ConfigError
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.credentials import Credentials, Role, load_credentials
from primia_flwr.inference.transport.listener import Listener, Places
from primia_flwr.processes.stop_signals import stop_signals

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

_WARN_SECONDS = 86_400.0  # between two warnings that a certificate ends


def kit_of(folder: str, role: Role) -> Credentials:
    """Return a kit's credentials.

    Raises
    ------
    PrimiaError
        If it cannot be read, or is another party's.
    """
    credentials = load_credentials(Path(folder).expanduser().resolve())
    if credentials.own.role != role:
        raise ConfigError(
            f"kit={folder} is that of {credentials.own}; expected the kit of a {role}, as "
            "`primia provision service` made it"
        )
    return credentials


def device_of(name: str) -> "torch.device":
    """Return the device of the linear layers.

    Raises
    ------
    ConfigError
        If this machine does not have it, or it does not compute exactly.
    """
    from primia_flwr.inference.arithmetic.limbs import require_exact
    from primia_flwr.training.device import pick_device

    device = pick_device(name, key="device")
    if device.type != "cpu":
        require_exact(device)
    return device


def shared(credentials: Credentials, most: int, each: int) -> Places:
    """Return the data owners' places: no one of them gets all, where there are two or more."""
    owners = sum(peer.role == "data-owner" for peer in credentials.peers)
    return Places(most, min(each, max(most - (owners > 1), 1)))


def listen(
    address: str,
    credentials: Credentials,
    places: Mapping[Role, Places],
    serve: Callable[[Channel], None],
    *,
    timeout: float,
    quiet: bool,
    greeting: str = "",
) -> None:
    """Serve every party that comes, each on a thread, until it is asked to stop.

    `greeting` is what the party that listens is told before anybody comes.
    """
    console = Console(stderr=True, quiet=quiet, emoji=False)
    handler = RichHandler(console=console, show_path=False, markup=False)
    logging.getLogger("primia_flwr").addHandler(handler)
    logging.getLogger("primia_flwr").setLevel(logging.INFO)
    stop = threading.Event()
    for number in stop_signals():
        signal.signal(number, lambda *_: stop.set())
    where = address or _everywhere(credentials.own.address)
    listener = Listener(where, credentials, accept=tuple(places), places=places, timeout=timeout)
    with listener:
        if greeting:
            console.print(greeting, markup=False, soft_wrap=True, highlight=False)
        warned = 0.0
        console.print(f"{credentials.own} listens at port {listener.port}; Ctrl-C ends it.")
        while not stop.is_set():
            if time.monotonic() >= warned and (ends := credentials.expiry()):
                logger.warning("%s", ends)
                warned = time.monotonic() + _WARN_SECONDS
            channel = listener.accept(wait=0.2)
            if channel is not None:
                threading.Thread(target=_guarded, args=(serve, channel), daemon=True).start()


def _guarded(serve: Callable[[Channel], None], channel: Channel) -> None:
    """Serve one party; a fault of this program ends its session, not the service."""
    try:
        serve(channel)
    except Exception:
        logger.exception("%s: a fault of this program", channel.peer)
        channel.fail("a fault of the program at this end; see its own messages")


def _everywhere(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"[::]:{port}" if ":" in host else f"0.0.0.0:{port}"
