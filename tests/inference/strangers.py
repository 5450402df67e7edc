"""Parties that do not belong to the test service, however much they look like it."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from primia_flwr.inference.transport.credentials import Role
from primia_flwr.provisioning import certificates as certs
from primia_flwr.provisioning.service import ServicePlan, issue_party, peers_yaml
from tests.inference.links import authority, service

PLAN = ServicePlan("trial", "127.0.0.1", "127.0.0.1", ["clinic-a"])


class LongAgo(datetime):
    """Ten years back, for certificates that have expired."""

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return datetime.now(UTC) - timedelta(days=3650)


def stranger(kit: Path, role: Role, name: str, *, signed_by: certs.Authority | None = None) -> Path:
    """A kit that knows the service, with a certificate that the service does not know."""
    by = signed_by or authority()
    peer = issue_party(kit, by, role, name, plan=PLAN)
    certs.write_certificate(kit / "ca.crt", by.certificate)
    peers = [known for known in service().peers if known.role != "data-owner"]
    peers = [peer, *(known for known in peers if known.role != role)]
    pin = certs.certificate_fingerprint(by.certificate)
    (kit / "peers.yaml").write_text(peers_yaml("trial", pin, peers))
    return kit


def context(kit: Path | None) -> ssl.SSLContext:
    """A client that checks nothing and shows the kit's certificate, if any."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if kit:
        made.load_cert_chain(kit / "party.crt", kit / "party.key")
    return made
