"""Change a service of encrypted inference without a new CA: parties come, go, and are renewed.

A renewed certificate is for the key that the party has, so no key travels, and nobody else has to
do anything: keys are pinned. Who comes or goes concerns the two parties that listen: they put the
service's new `peers.yaml` in the place of theirs. No data owner's kit changes for another one.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from primia_flwr.errors import FederationError, ServiceError
from primia_flwr.inference.transport.connect import split_address
from primia_flwr.inference.transport.credentials import (
    CA_FILE,
    PEERS_FILE,
    Peer,
    Role,
    fingerprint,
    key_fingerprint,
    read_identity,
    read_peers,
)
from primia_flwr.provisioning import certificates as certs
from primia_flwr.provisioning.kits import check_name
from primia_flwr.provisioning.service import (
    CA_KEY,
    ServicePlan,
    certificate_file,
    complete_kit,
    issue_party,
    peers_yaml,
)
from primia_flwr.storage.atomic import PRIVATE, write_atomic
from primia_flwr.storage.reading import read_bytes, read_private, reading

_LISTENING: tuple[Role, ...] = ("model-owner", "crypto-provider")


@dataclass(frozen=True)
class Changed:
    """What a change has made: the parties' new kits, new certificates, and who is no more.

    `days`: how long new certificates are valid.
    """

    folder: Path
    ca_fingerprint: str
    kits: dict[str, Path]
    certificates: dict[str, Path]
    removed: tuple[str, ...]
    days: int

    @property
    def concerns_all(self) -> bool:
        """Whether the two that listen need the new `peers.yaml`."""
        return bool(self.kits or self.removed)


class ServiceFolder:
    """The folder of a service, with its CA's key.

    Parameters
    ----------
    folder : Path
        That `primia provision service` made.
    software : bool
        New kits bring the wheel of what is installed here.

    Raises
    ------
    PrimiaError
        If a file is missing, cannot be read, or does not belong to the others.
    """

    def __init__(self, folder: Path, *, software: bool = False) -> None:
        self.folder = folder
        self._software = software
        self.authority = _authority(folder)
        if not (folder / PEERS_FILE).exists():
            raise FederationError(
                f"{folder / PEERS_FILE} is missing; expected the pins of all parties: copy the "
                f"{PEERS_FILE} of the model owner's kit there"
            )
        self.name, peers = read_peers(folder / PEERS_FILE, self.authority.certificate)
        self.peers = {_short(peer): peer for peer in peers}

    def change(
        self,
        *,
        add: Sequence[str] = (),
        renew: Sequence[str] = (),
        remove: Sequence[str] = (),
        days: int,
    ) -> Changed:
        """Add and remove data owners, and renew the certificates of whom is named.

        Parameters
        ----------
        add, remove : sequence of str
            Data owners' names.
        renew : sequence of str
            Data owners' names, `model-owner` or `crypto-provider`.
        days : int
            How long new certificates are valid; not beyond the CA's own.

        Raises
        ------
        PrimiaError
            If a name is not as it must be; then nothing is changed.
        """
        self._check(add, renew, remove)
        days = min(days, self._days_left())
        peers = {name: peer for name, peer in self.peers.items() if name not in remove}
        renewed = {name: self._renewed(name, days) for name in renew}
        peers |= {name: _with(peers[name], certificate) for name, certificate in renewed.items()}
        kits = {}
        for name in add:
            kits[name], peers[name] = self._added(name, tuple(peers.values()), days)
        for name, certificate in renewed.items():
            self._keep(name, certificate)
        ca_fingerprint = certs.certificate_fingerprint(self.authority.certificate)
        text = peers_yaml(self.name, ca_fingerprint, tuple(peers.values()))
        write_atomic(self.folder / PEERS_FILE, text, mode=PRIVATE)
        for name in remove:
            certificate_file(self.folder, f"kit-{name}").unlink(missing_ok=True)
        self.peers = peers
        places = {name: certificate_file(self.folder, f"kit-{name}") for name in renewed}
        return Changed(self.folder, ca_fingerprint, kits, places, tuple(remove), days)

    def _check(self, add: Sequence[str], renew: Sequence[str], remove: Sequence[str]) -> None:
        named = [*add, *renew, *remove]
        if not named or len(set(named)) != len(named):
            raise FederationError(
                f"add={list(add)}, renew={list(renew)}, remove={list(remove)}; expected at least "
                "one party, and each once"
            )
        lower = {name.lower() for name in (*self.peers, *_LISTENING)}
        for name in add:
            check_name("add", name)
            taken = name.lower() in lower or (self.folder / f"kit-{name}").exists()
            if taken:
                raise FederationError(
                    f"add=[{name}]; {self.name} has a party or a kit of that name; expected "
                    "another one, or renew=: an added party gets a new key"
                )
            lower.add(name.lower())
        self._check_known(renew, remove)

    def _check_known(self, renew: Sequence[str], remove: Sequence[str]) -> None:
        for key, names in (("renew", renew), ("remove", remove)):
            for name in names:
                if name not in self.peers or (key == "remove" and name in _LISTENING):
                    known = [one for one in self.peers if key == "renew" or one not in _LISTENING]
                    raise FederationError(f"{key}=[{name}]; expected one of {', '.join(known)}")

    def _days_left(self) -> int:
        ends = self.authority.certificate.not_valid_after_utc
        left = (ends - datetime.now(UTC)).days
        if left < 1:
            raise FederationError(
                f"{self.folder / CA_FILE} ends on {ends:%Y-%m-%d}; expected a CA that can still "
                "issue certificates; provision a new service"
            )
        return left

    def _renewed(self, name: str, days: int) -> x509.Certificate:
        """Return another certificate for a party's key, with all that its last one says."""
        peer, file = self.peers[name], certificate_file(self.folder, f"kit-{name}")
        expected = f"the party.crt of {peer}, which is public: ask for it and put it there"
        with reading(file, error=FederationError, expected=expected):
            last = x509.load_pem_x509_certificate(read_bytes(file))
            last.verify_directly_issued_by(self.authority.certificate)
            if read_identity(last) != (peer.role, peer.name) or peer.seen(last) is None:
                raise ValueError("it is not the pinned one")
            key = last.public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise TypeError("its key is of another kind")
            names = last.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            purposes = last.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            who = f"{peer.role} {peer.name}"
            return certs.certify(self.authority, key, who, list(names), list(purposes), days=days)

    def _added(self, name: str, peers: Sequence[Peer], days: int) -> tuple[Path, Peer]:
        """Make a data owner's kit; it appears whole."""
        plan = self._plan(name, days)
        kit = f"kit-{name}"
        with tempfile.TemporaryDirectory(prefix=".adding-", dir=self.folder) as scratch:
            building = Path(scratch) / kit
            peer = issue_party(building, self.authority, "data-owner", name, plan=plan)
            complete_kit(building, peer, plan, self.authority, (*peers, peer))
            certificate = x509.load_pem_x509_certificate((building / "party.crt").read_bytes())
            building.with_suffix(".zip").rename(self.folder / f"{kit}.zip")
            building.rename(self.folder / kit)
        self._keep(name, certificate)
        return self.folder / kit, peer

    def _plan(self, name: str, days: int) -> ServicePlan:
        hosts = {role: split_address(self.peers[role].address) for role in _LISTENING}
        (owner, owner_port), (provider, provider_port) = (hosts[role] for role in _LISTENING)
        ports = (owner_port, provider_port)
        return ServicePlan(
            self.name, owner, provider, [name], *ports, days=days, software=self._software
        )

    def _keep(self, name: str, certificate: x509.Certificate) -> None:
        file = certificate_file(self.folder, f"kit-{name}")
        file.parent.mkdir(mode=0o700, exist_ok=True)
        write_atomic(file, certificate.public_bytes(Encoding.PEM))


def _with(peer: Peer, certificate: x509.Certificate) -> Peer:
    """Return a peer with a renewed certificate."""
    key = key_fingerprint(certificate)
    return replace(peer, fingerprint=fingerprint(certificate), key=key)


def _short(peer: Peer) -> str:
    """Return how a party is named in its kit: a data owner by its name, else by the role."""
    return peer.name if peer.role == "data-owner" else peer.role


def _authority(folder: Path) -> certs.Authority:
    expected = (
        f"the {CA_KEY} and {CA_FILE} of a service; it is kept offline: bring it back for this"
    )
    content = read_private(folder / CA_KEY, error=FederationError, expected=expected)
    with reading(folder / CA_KEY, error=FederationError, expected=expected):
        key = load_pem_private_key(content, None)
        certificate = x509.load_pem_x509_certificate(read_bytes(folder / CA_FILE))
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("it is a key of another kind")
        if key.public_key() != certificate.public_key():
            raise ServiceError(f"it is not the key of {CA_FILE}")
    return certs.Authority(key, certificate)
