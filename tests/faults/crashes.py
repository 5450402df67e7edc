"""What happens to processes in the world: they are killed, or end by themselves."""

from __future__ import annotations

import signal

from primia_flwr.flower.supernodes import LocalSite
from primia_flwr.processes.children import Child, wait_until


def kill_leader(child: Child | None) -> None:
    """End only the process itself (SIGKILL), as a crash would; what it started stays."""
    assert child is not None
    child._process.kill()
    child._process.wait()


def kill_site(site: LocalSite) -> None:
    """End a site and all that it started at once (SIGKILL), as a power cut would."""
    child = site._running()
    child._signal(signal.SIGKILL)
    child._process.wait()


def last_words(site: LocalSite) -> str:
    """Wait until a site has ended by itself and return its last lines."""
    child = site._running()
    wait_until(lambda: child.poll() is not None, what=f"site {site.name} ended", timeout=60.0)
    return child.log_tail(5)
