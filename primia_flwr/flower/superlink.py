"""A real SuperLink: TLS, SuperNode authentication, SQLite, and ServerApps that outlive it.

`flower-superlink --isolation process` starts no ServerApp itself; a separate `flower-superexec`
does. When the SuperLink is killed and started again on the same database, the ServerApp
reconnects and the run goes on.
"""

import ssl
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

from primia_flwr.errors import FederationError
from primia_flwr.flower.command import write_connection
from primia_flwr.processes.children import (
    Child,
    Service,
    check_port_free,
    flower_environment,
    wait_until,
)
from primia_flwr.processes.programs import flower_program

_READY_SECONDS = 60.0


@dataclass(frozen=True)
class SuperLinkFiles:
    """The coordinator's folder of a federation, as `primia provision` writes it."""

    folder: Path

    @property
    def ca(self) -> Path:
        """The CA certificate."""
        return self.folder / "ca.crt"

    @property
    def certificate(self) -> Path:
        """The SuperLink's certificate."""
        return self.folder / "superlink.crt"

    @property
    def key(self) -> Path:
        """The SuperLink's private key."""
        return self.folder / "superlink.key"

    @property
    def secret(self) -> Path:
        """The secret between the SuperLink and the process that starts ServerApps."""
        return self.folder / "superexec.secret"

    @property
    def database(self) -> Path:
        """The SuperLink's SQLite database."""
        return self.folder / "superlink.db"


def superlink_arguments(
    files: SuperLinkFiles, *, host: str, port: int, durable: bool = True
) -> list[str]:
    """Return the arguments of `flower-superlink`; without `durable` it keeps all in memory."""
    return [
        *("--host", host, "--port", str(port)),
        *("--ssl-certfile", str(files.certificate)),
        *("--ssl-keyfile", str(files.key)),
        *("--ssl-ca-certfile", str(files.ca)),
        "--enable-supernode-auth",
        *(("--database", str(files.database)) if durable else ()),
        *("--isolation", "process"),
        *("--superexec-auth-secret-file", str(files.secret)),
        "--disable-runtime-dependency-installation",
    ]


def superexec_arguments(files: SuperLinkFiles, *, address: str) -> list[str]:
    """Return the arguments of the `flower-superexec` that starts ServerApps."""
    return [
        *("--runtime-api-address", address),
        *("--root-certificates", str(files.ca)),
        *("--superexec-auth-secret-file", str(files.secret)),
    ]


class SuperLink(Service):
    """A SuperLink and its SuperExec as children of this process; a context manager.

    `flower_home` is where Flower keeps what it unpacks and finds its connections; logs go to
    `logs`. The certificate must be valid for `host`. Without `durable` what it knows, sites' keys
    and runs, ends with its process.
    """

    def __init__(
        self,
        files: SuperLinkFiles,
        *,
        host: str,
        port: int,
        flower_home: Path,
        logs: Path,
        durable: bool = True,
    ) -> None:
        self.files = files
        self.durable = durable
        self.host = host
        self.port = port
        self.flower_home = flower_home
        self.logs = logs
        self._link: Child | None = None
        self._exec: Child | None = None

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        """Start both processes and wait until the SuperLink answers.

        Raises
        ------
        FederationError
            If the port is in use, a file is missing, or the SuperLink does not come up.
        """
        self.flower_home.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_connection(self.flower_home, "primia", self.address, self.files.ca)
        self.start_link()
        self._exec = self._child(
            "superexec", "flower-superexec", superexec_arguments(self.files, address=self.address)
        )

    def start_link(self) -> None:
        """Start only the SuperLink, e.g. again after it was killed.

        Raises
        ------
        FederationError
            If the port is in use, a file is missing, or the SuperLink does not come up.
        """
        files = self.files
        for file in (files.ca, files.certificate, files.key, files.secret):
            if not file.is_file():
                raise FederationError(f"{file} not found; expected what `primia provision` wrote")
        check_port_free(self.host, self.port, key="port")
        arguments = superlink_arguments(
            self.files, host=self.host, port=self.port, durable=self.durable
        )
        self._link = self._child("superlink", "flower-superlink", arguments)
        wait_until(
            lambda: _answers(self.address, self.files.ca),
            what="the SuperLink answered",
            timeout=_READY_SECONDS,
            child=self._link,
        )

    def stop(self) -> None:
        """Stop both processes and all that they started."""
        for child in (self._exec, self._link):
            if child is not None:
                child.stop()
        self._exec = self._link = None

    def _child(self, name: str, program: str, arguments: list[str]) -> Child:
        return Child(
            name,
            [flower_program(program), *arguments],
            log_file=self.logs / f"{name}.log",
            environment=flower_environment(self.flower_home),
            folder=self.flower_home,
        )


def _answers(address: str, ca: Path, *, timeout: float = 2.0) -> bool:
    """Say whether a SuperLink with a certificate of this CA answers at `host:port`."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=str(ca))
    connection = HTTPSConnection(host.strip("[]"), int(port), timeout=timeout, context=context)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return True
