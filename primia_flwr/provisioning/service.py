"""Provision a service of encrypted inference: a CA and one kit for each party.

The model owner and the crypto provider listen and have certificates for their host names; a data
owner only connects. All is made in one folder that must not exist yet; the CA's key stays there,
with all certificates and the pins of all parties, so that the service can be changed later
(`federation.service_changes`). A kit holds one party's key and only public things besides.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from primia_flwr.errors import FederationError
from primia_flwr.inference.transport import credentials as kit_files
from primia_flwr.inference.transport.credentials import Peer, Role, service_uri
from primia_flwr.provisioning import certificates as certs
from primia_flwr.provisioning.kit.software import NO_SOFTWARE, put_software
from primia_flwr.provisioning.kits import check_name, new_folder, zip_kit

_LOOPBACK = ("localhost", "127.0.0.1")
_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
# The crypto provider only listens, a data owner only connects.
_PURPOSES: dict[Role, list[x509.ObjectIdentifier]] = {
    "data-owner": [_CLIENT],
    "model-owner": [_SERVER, _CLIENT],
    "crypto-provider": [_SERVER],
}
CA_KEY, _CERTIFICATES = "ca.key", "certificates"
_CA_DAYS = 3650  # the CA outlives the certificates that it renews
_RESERVED = ("model-owner", "crypto-provider")  # names of their kits

_README = """\
# Kit of the {role} {name} in the service {service}

This folder holds a private key (`party.key`, mode 600): never send it to anybody. Whoever has it
is the {role} {name}.

1. Install Python 3.11 or newer, then the software. {software}
2. Compare the fingerprints in `peers.yaml` by phone, not by e-mail; above all
   - the CA of the service: `{ca_fingerprint}`
   - your own certificate: `{fingerprint}` (valid for {days} days)
3. Start:

       {command}

{role_text}
Every link is TLS 1.3 with certificates on both sides. A party whose certificate is not in
`peers.yaml` with its role is turned away, whoever signed it. To shut a party out, delete its entry
there and start again. Before your certificate ends you are warned, and get another `party.crt` for
the same key: put it in the place of this one.
"""
_COMMANDS: dict[Role, str] = {
    "crypto-provider": "primia serve crypto-provider kit={kit}",
    "model-owner": "primia serve model-owner model=<run folder> kit={kit}",
    "data-owner": "primia infer server={model_owner} data.root=<folder> kit={kit}",
}
_ROLE_TEXTS: dict[Role, str] = {
    "crypto-provider": """\
   It listens at {own} (open this TCP port to the model owner and the data owners). The crypto
   provider sees neither images nor weights; it must not work together with either party.
""",
    "model-owner": """\
   It listens at {own} (open this TCP port to the data owners) and connects to the crypto
   provider at {crypto_provider}. `<run folder>` is what `primia train` left.
""",
    "data-owner": """\
   It connects to the model owner at {model_owner} and to the crypto provider at
   {crypto_provider}; nothing listens on your side. `<folder>` holds your images.
""",
}


@dataclass(frozen=True)
class ServicePlan:
    """What to provision.

    `model_owner` and `crypto_provider` are the DNS names or addresses at which the others reach
    them; with `loopback` their certificates also hold for localhost and 127.0.0.1. Certificates
    are valid for `days`. `software`: each kit brings the wheel of what is installed here.
    """

    name: str
    model_owner: str
    crypto_provider: str
    data_owners: Sequence[str]
    model_owner_port: int = 9700
    crypto_provider_port: int = 9701
    days: int = 730
    loopback: bool = False
    software: bool = False

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if not self.data_owners:
            raise FederationError("data_owners=[]; expected at least one, e.g. [clinic-a]")
        for owner in self.data_owners:
            check_name("data_owners", owner)
        folders = [*_RESERVED, *(owner.lower() for owner in self.data_owners)]
        if len(set(folders)) != len(folders):
            raise FederationError(
                f"data_owners={list(self.data_owners)}; expected different names, other than "
                f"{' and '.join(_RESERVED)}"
            )

    def address(self, role: Role) -> str:
        """Return the `host:port` where a role listens; empty for data owners."""
        listening: dict[Role, tuple[str, int]] = {
            "model-owner": (self.model_owner, self.model_owner_port),
            "crypto-provider": (self.crypto_provider, self.crypto_provider_port),
        }
        if role not in listening:
            return ""
        host, port = listening[role]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def parties(self) -> dict[str, tuple[Role, str]]:
        """Return role and name by the name of the kit's folder."""
        owners = {f"kit-{owner}": ("data-owner", owner) for owner in self.data_owners}
        return {
            "kit-model-owner": ("model-owner", self.name),
            "kit-crypto-provider": ("crypto-provider", self.name),
            **owners,  # type: ignore[dict-item]
        }


@dataclass(frozen=True)
class Service:
    """What was provisioned: the folder, all parties, and the kits by name of the folder."""

    folder: Path
    ca_fingerprint: str
    peers: tuple[Peer, ...]
    kits: dict[str, Path]


def provision_service(plan: ServicePlan, output: Path) -> Service:
    """Make keys, certificates and kits of a service in the new folder `output`.

    Raises
    ------
    FederationError
        If something is there already (nothing is overwritten).
    """
    with new_folder(output) as building:
        authority = certs.make_authority(plan.name, days=max(plan.days, _CA_DAYS), of="service")
        ca_key = certs.private_bytes(authority.key, openssh=False)
        certs.write_private(building / CA_KEY, ca_key)
        certs.write_certificate(building / kit_files.CA_FILE, authority.certificate)
        peers = tuple(
            issue_party(building / kit, authority, role, name, plan=plan)
            for kit, (role, name) in plan.parties().items()
        )
        ca_fingerprint = certs.certificate_fingerprint(authority.certificate)
        (building / _CERTIFICATES).mkdir(mode=0o700)
        for kit, peer in zip(plan.parties(), peers, strict=True):
            complete_kit(building / kit, peer, plan, authority, peers)
            shutil.copyfile(
                building / kit / kit_files.CERTIFICATE_FILE, certificate_file(building, kit)
            )
        (building / kit_files.PEERS_FILE).write_text(peers_yaml(plan.name, ca_fingerprint, peers))
    return Service(output, ca_fingerprint, peers, {kit: output / kit for kit in plan.parties()})


def issue_party(
    kit: Path, authority: certs.Authority, role: Role, name: str, *, plan: ServicePlan
) -> Peer:
    """Make a party's key and certificate in the new folder `kit`; return its pin."""
    host = {"model-owner": plan.model_owner, "crypto-provider": plan.crypto_provider}.get(role)
    names = [host, *(_LOOPBACK if plan.loopback else ())] if host else []
    alternatives: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(service_uri(role, name)),
        *(certs.alternative(each) for each in dict.fromkeys(names)),
    ]
    key, certificate = certs.issue_certificate(
        authority, f"{role} {name}", alternatives, _PURPOSES[role], days=plan.days
    )
    kit.mkdir(mode=0o700)
    certs.write_private(kit / kit_files.KEY_FILE, certs.private_bytes(key, openssh=False))
    certs.write_certificate(kit / kit_files.CERTIFICATE_FILE, certificate)
    pins = certs.certificate_fingerprint(certificate), kit_files.key_fingerprint(certificate)
    return Peer(role, name, pins[0], plan.address(role), pins[1])


def certificate_file(folder: Path, kit: str) -> Path:
    """Return where a service's folder keeps the certificate of the party with this kit."""
    return folder / _CERTIFICATES / f"{kit}.crt"


def command(plan: ServicePlan, role: Role, *, kit: str) -> str:
    """Return the command line that starts a party with its kit."""
    return _COMMANDS[role].format(kit=kit, model_owner=plan.address("model-owner"))


def peers_yaml(service: str, ca_fingerprint: str, peers: Sequence[Peer]) -> str:
    """Return the peers file of a service."""
    entries = [
        {
            "name": peer.name,
            "role": peer.role,
            "address": peer.address,
            "fingerprint": peer.fingerprint,
            **({"key": peer.key} if peer.key else {}),
        }
        for peer in peers
    ]
    content = {"service": service, "ca_fingerprint": ca_fingerprint, "peers": entries}
    return yaml.safe_dump(content, sort_keys=False, width=200)


def complete_kit(
    kit: Path, peer: Peer, plan: ServicePlan, authority: certs.Authority, peers: Sequence[Peer]
) -> None:
    """Add to a party's key and certificate what it must know of the others; pack all of it."""
    ca_fingerprint = certs.certificate_fingerprint(authority.certificate)
    certs.write_certificate(kit / kit_files.CA_FILE, authority.certificate)
    # A data owner does not learn who else is one.
    known = [each for each in peers if each == peer or not each.role == peer.role == "data-owner"]
    (kit / kit_files.PEERS_FILE).write_text(peers_yaml(plan.name, ca_fingerprint, known))
    (kit / "README.md").write_text(_readme(kit, peer, plan, ca_fingerprint))
    zip_kit(kit)


def _readme(kit: Path, peer: Peer, plan: ServicePlan, ca_fingerprint: str) -> str:
    role_text = _ROLE_TEXTS[peer.role].format(
        own=peer.address,
        model_owner=plan.address("model-owner"),
        crypto_provider=plan.address("crypto-provider"),
    )
    return _README.format(
        software=put_software(kit) if plan.software else NO_SOFTWARE,
        role=peer.role,
        name=peer.name,
        service=plan.name,
        ca_fingerprint=ca_fingerprint,
        fingerprint=peer.fingerprint,
        days=plan.days,
        command=command(plan, peer.role, kit="."),
        role_text=role_text,
    )
