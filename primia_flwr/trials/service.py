"""The encrypted-inference service on this machine: three processes, real TLS, one clinic.

Nothing is left behind: kits and stores lie in a temporary folder, the children end with this
process.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primia_flwr.errors import ServiceError
from primia_flwr.processes.children import Child, Children, free_port, is_listening, wait_until
from primia_flwr.provisioning.service import ServicePlan, provision_service

_CLINIC = "clinic"
_START_SECONDS = 120.0
_CERTIFICATE_DAYS = 60  # their end is warned of 30 days ahead
# All three parties are one person here: nobody could copy what is not theirs.
UNLIMITED = ("limit=1000000", "life_limit=1000000", "accept_extraction=true")


@dataclass(frozen=True)
class RunningService:
    """Kits by role, and the ports of the two parties that listen."""

    folder: Path
    clinic_kit: Path
    model_owner_port: int
    provider_port: int
    model_owner: Child
    provider: Child

    def kit(self, name: str) -> Path:
        """Return the kit of a data owner, the model owner or the crypto provider."""
        return self.clinic_kit.with_name(f"kit-{name}")


def command_line(*words: str) -> list[str]:
    """Return a command line of primia for an interpreter like this one."""
    return [sys.executable, "-m", "primia_flwr.cli.main", *words]


@contextmanager
def running_service(
    model: Path,
    *,
    options: Sequence[str] = (),
    provider_options: Sequence[str] = (),
    data_owners: Sequence[str] = (_CLINIC,),
) -> Iterator[RunningService]:
    """Start crypto provider and model owner; both are gone when this ends.

    Parameters
    ----------
    model : Path
        Folder of a finished run.
    options, provider_options : sequence of str
        Further arguments of the two.
    data_owners : sequence of str
        Their names; `clinic_kit` is the first one's.

    Raises
    ------
    FederationError
        If one of them does not start.
    """
    with tempfile.TemporaryDirectory(prefix="primia-service-") as scratch, Children() as children:
        folder = Path(scratch)
        owner_port, provider_port = free_port(), free_port()
        kits = _kits(folder / "service", data_owners, owner_port, provider_port)

        def start(name: str, port: int, *words: str) -> Child:
            kit = kits[f"kit-{name}"]
            command = command_line("serve", name, *words, f"kit={kit}", f"listen=127.0.0.1:{port}")
            log = folder / f"{name}.log"
            child = Child(name, command, log_file=log, environment=os.environ, folder=Path.cwd())
            _wait_for(children.add(child), port)
            return child

        provider = start("crypto-provider", provider_port, *provider_options)
        log = f"log={kits['kit-model-owner'] / 'queries.jsonl'}"  # not in the user's model
        of_owner = (f"model={model}", f"store.folder={folder}", log, *options)
        owner = start("model-owner", owner_port, *of_owner)
        clinic = kits[f"kit-{data_owners[0]}"]
        yield RunningService(folder, clinic, owner_port, provider_port, owner, provider)


def _kits(
    folder: Path, data_owners: Sequence[str], owner_port: int, provider_port: int
) -> Mapping[str, Path]:
    plan = ServicePlan(
        name="trial",
        model_owner="localhost",
        crypto_provider="localhost",
        data_owners=data_owners,
        model_owner_port=owner_port,
        crypto_provider_port=provider_port,
        days=_CERTIFICATE_DAYS,
        loopback=True,
    )
    return provision_service(plan, folder).kits


def ask(
    service: RunningService, images: Path, output: Path, *options: str, timeout: float | None = None
) -> dict[str, Any]:
    """Run `primia infer` in a process of its own and return its result.

    Images without a diagnosis are part of a result.

    Raises
    ------
    ServiceError
        If it fails; with its own last words.
    """
    words = command_line(
        "infer",
        f"server=localhost:{service.model_owner_port}",
        f"data.root={images}",
        f"kit={service.clinic_kit}",
        f"output={output}",
        f"store.folder={service.folder}",
        *options,
    )
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=timeout, check=False)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        raise ServiceError(
            f"primia infer ended with exit code {done.returncode}; its message stands above; the "
            f"model owner's last words: {service.model_owner.log_tail(3)}"
        )
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _wait_for(child: Child, port: int) -> None:
    wait_until(
        lambda: is_listening("127.0.0.1", port),
        what=f"the start of the {child.name}",
        timeout=_START_SECONDS,
        child=child,
    )
