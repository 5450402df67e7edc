"""The proxy that the environment names for a SuperLink: hospitals and universities set one.

Flower's programs go through it, so that a proxy which is wrong looks like a SuperLink that is down.
"""

import base64
import os
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from primia_flwr.processes.children import loopback_without_proxy

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """A proxy by host and port, and the headers by which it knows its user."""

    host: str
    port: int
    headers: dict[str, str]


def proxy_to(address: str) -> Proxy | None:
    """Return the proxy on the way to `address`, host:port; None where there is none.

    What stays on this machine goes through none, nor does what `NO_PROXY` names.
    """
    known = getproxies_environment() | {"no": loopback_without_proxy(os.environ)["no_proxy"]}
    url = known.get("https") or known.get("all", "")
    everywhere = "*" in known["no"].split(",")
    if not url or everywhere or proxy_bypass(_host(address), known):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port or _PORTS.get(parts.scheme, 80)
    except ValueError:  # it is no number; nobody listens there
        port = 0
    return Proxy(parts.hostname or "", port, _headers(parts))


def through_proxy(address: str) -> str:
    """Return a clause on the proxy on the way to `address`, with a blank before it; or nothing."""
    proxy = proxy_to(address)
    if proxy is None:
        return ""
    return (
        f" through the proxy {proxy.host}:{proxy.port} of HTTPS_PROXY (without it: set "
        f"NO_PROXY={_host(address)})"
    )


def _headers(parts: SplitResult) -> dict[str, str]:
    if not parts.username:
        return {}
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": f"Basic {str(base64.b64encode(user.encode()), 'ascii')}"}


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")
