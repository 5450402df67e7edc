"""Two connected channels in one process: real TLS over loopback, with throw-away certificates."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.connect import connect
from primia_flwr.inference.transport.credentials import Credentials, Role, load_credentials
from primia_flwr.inference.transport.listener import Listener
from primia_flwr.provisioning import certificates as certs
from primia_flwr.provisioning.service import Service, ServicePlan, provision_service

LISTENING_FIRST: tuple[Role, ...] = ("crypto-provider", "model-owner", "data-owner")


@functools.cache
def service() -> Service:
    """A service with the data owners clinic-a and clinic-b, for this process only."""
    folder = Path(tempfile.mkdtemp(prefix="primia-service-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    plan = ServicePlan("trial", "127.0.0.1", "127.0.0.1", ["clinic-a", "clinic-b"], loopback=True)
    return provision_service(plan, folder / "trial")


@functools.cache
def credentials(role: Role, name: str = "clinic-a") -> Credentials:
    """The credentials of a role; of the data owners, of this one."""
    kit = f"kit-{name if role == 'data-owner' else role}"
    return load_credentials(service().kits[kit])


def authority() -> certs.Authority:
    """The CA of the test service, which has leaked."""
    folder = service().folder
    key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return certs.Authority(key, x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes()))


def linked(role_a: Role, role_b: Role, *, timeout: float = 10.0) -> tuple[Channel, Channel]:
    """Return the channel that `role_a` holds (its peer is `role_b`), and the one of `role_b`."""
    listens, connects = sorted((role_a, role_b), key=LISTENING_FIRST.index)
    with Listener(
        "127.0.0.1:0", credentials(listens), accept=[connects], timeout=timeout
    ) as listener:
        near = connect(
            f"127.0.0.1:{listener.port}", credentials(connects), expect=listens, timeout=timeout
        )
        far = listener.accept(timeout)
    assert far is not None
    return (near, far) if role_a == connects else (far, near)
