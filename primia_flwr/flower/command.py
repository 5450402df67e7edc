"""Flower's own command line, called as a user would: submit a run, ask for its status."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from primia_flwr.errors import FederationError
from primia_flwr.processes.children import flower_environment
from primia_flwr.processes.programs import flower_program
from primia_flwr.storage.reading import parse_json

CONNECTION = "run"
_COMMAND_SECONDS = 120


@dataclass(frozen=True)
class Connection:
    """How `flwr` reaches a SuperLink: `address` is host:port; no CA file means no TLS."""

    home: Path
    address: str
    root_certificates: Path | None = None

    def write(self) -> None:
        """Write the connection into Flower's configuration under `home`."""
        self.home.mkdir(parents=True, exist_ok=True)
        write_connection(self.home, CONNECTION, self.address, self.root_certificates)

    def call(self, *arguments: str) -> dict[str, Any]:
        """Run one `flwr` command and return its JSON answer.

        Raises
        ------
        FederationError
            If the command fails or does not end; the message carries Flower's own reason.
        """
        done = self._run(arguments)
        answer = _last_json(done.stdout)
        if done.returncode == 0 and answer and answer.get("success", True):
            return answer
        reason = answer.get("error-message") or done.stderr or done.stdout
        raise FederationError(f"flwr {' '.join(arguments[:2])} failed: {' '.join(reason.split())}")

    def _run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [flower_program("flwr"), *arguments, "--format", "json"],
                env=flower_environment(self.home),
                capture_output=True,
                text=True,
                timeout=_COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise FederationError(
                f"flwr {' '.join(arguments[:2])} did not end within {_COMMAND_SECONDS} s; expected "
                f"an answer of the SuperLink at {self.address}; is it there, or the machine busy?"
            ) from None

    def submit(self, app: Path, run_config: Path, *, federation_options: str = "") -> int:
        """Submit the app and return the run's id."""
        options = ["--federation-config", federation_options] if federation_options else []
        answer = self.call("run", str(app), CONNECTION, "--run-config", str(run_config), *options)
        return int(answer["run-id"])

    def status(self, run_id: int) -> str:
        """Return the run's status in Flower's words, e.g. `running` or `finished:failed`."""
        runs = self.call("list", CONNECTION, "--run-id", str(run_id)).get("runs", [])
        return str(runs[0]["status"]) if runs else "unknown"


def write_connection(flower_home: Path, name: str, address: str, ca: Path | None) -> Path:
    """Write the connection `name` that `flwr run . NAME` looks up in Flower's home.

    Without a CA certificate the connection has no TLS, for loopback alone.
    """
    file = flower_home / "config.toml"
    trust = {"root-certificates": str(ca.resolve())} if ca else {"insecure": True}
    connection = {"address": address, **trust}
    file.write_text(tomli_w.dumps({"superlink": {"default": name, name: connection}}))
    return file


def write_run_config(path: Path, experiment: str) -> None:
    """Write the one run-config key (docs/adr/0002) as the TOML file that `flwr run` takes."""
    path.write_text(tomli_w.dumps({"config": experiment}))


def _last_json(text: str) -> dict[str, Any]:
    start = text.find("{")
    try:
        value = parse_json(text[start:], finite=False) if start >= 0 else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
