"""Sites on this machine, for loopback federations: each runs as a hospital runs it.

The coordinator's code never reaches into a site: it starts the hospital's own program with the
site's policy file, and stops it.
"""

import os
import subprocess
from pathlib import Path

from primia_flwr.errors import FederationError
from primia_flwr.processes.children import Child, isolated_module, wait_until

_CONNECT_SECONDS = 60.0


class LocalSite:
    """A site's kit folder and the process that runs it."""

    def __init__(self, name: str, kit: Path) -> None:
        self.name = name
        self.kit = kit
        self._child: Child | None = None

    @property
    def policy_file(self) -> Path:
        """The site's policy."""
        return self.kit / "site.yaml"

    @property
    def log_file(self) -> Path:
        """What `primia site run` prints."""
        return self.kit / "state" / "logs" / "site.log"

    def start(self) -> None:
        """Start the site; it connects in the background (see `wait_connected`)."""
        self._child = Child(
            f"site {self.name}",
            isolated_module("primia_flwr.site.run", str(self.policy_file.resolve())),
            log_file=self.log_file,
            environment=dict(os.environ),
            folder=self.kit,
        )

    def wait_connected(self, timeout: float = _CONNECT_SECONDS) -> None:
        """Wait until the SuperLink has accepted the site.

        Raises
        ------
        FederationError
            If the site ends first (its reason is in the message) or takes too long.
        """
        child = self._running()
        wait_until(
            lambda: "connected; waiting" in child.log_tail(50),
            what=f"site {self.name} was connected",
            timeout=timeout,
            child=child,
        )

    def stop(self) -> None:
        """Ask the site to end and wait for it."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def approve(self, bundle: Path) -> str:
        """Approve a bundle file as the hospital would; return its SHA-256.

        Raises
        ------
        FederationError
            If the site's program refuses the file.
        """
        command = isolated_module(
            "primia_flwr.site.bundle.approval",
            str(self.policy_file.resolve()),
            str(bundle.resolve()),
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise FederationError(f"site {self.name}: {done.stderr.strip()}")
        return done.stdout.strip()

    def _running(self) -> Child:
        if self._child is None:
            raise FederationError(f"site {self.name} was not started; call start() first")
        return self._child
