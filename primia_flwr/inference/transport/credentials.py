"""Who the parties of a service are, and what one of them shows for itself and asks of others.

Every party has a certificate of the service's own CA, in which its role and name stand as a URI
(`primia:service:data-owner:clinic-a`), and a peers file with the fingerprint of every party's
certificate and of its public key. A certificate of a key that is not in the file is a stranger's,
whoever signed it; a renewed one has the key of the one before, so that a renewal is no news to
anybody else.
"""

import hashlib
import re
import ssl
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from primia_flwr.config.plain_yaml import MAX_ROSTER_CHARACTERS, load_mapping
from primia_flwr.errors import ServiceError
from primia_flwr.storage.reading import read_bytes, read_private, read_text, reading, reason_of

Role = Literal["data-owner", "model-owner", "crypto-provider"]
_ROLES: tuple[Role, ...] = get_args(Role)

KEY_FILE, CERTIFICATE_FILE, CA_FILE, PEERS_FILE = "party.key", "party.crt", "ca.crt", "peers.yaml"
_URI = "primia:service:"
_MAX_FILE_BYTES = 1 << 20
_AHEAD = timedelta(days=30)  # how long before it ends a certificate's end is told
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Peer:
    """A party of the service.

    `fingerprint` is the SHA-256 of its certificate as `openssl x509 -fingerprint -sha256` shows
    it, `key` that of its public key, empty in kits of earlier versions; `address` is the
    `host:port` where it listens, empty where it does not. `expires` is known of a certificate
    that was seen.
    """

    role: Role
    name: str
    fingerprint: str
    address: str = ""
    key: str = ""
    expires: datetime | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.role} {self.name}"

    def seen(self, certificate: x509.Certificate) -> "Peer | None":
        """Return this party as its certificate shows it; None if it is not the pinned one's.

        It is if it is the pinned certificate itself, or another one of the pinned key.
        """
        shown = fingerprint(certificate)
        if shown != self.fingerprint and (not self.key or key_fingerprint(certificate) != self.key):
            return None
        return replace(self, fingerprint=shown, expires=certificate.not_valid_after_utc)


@dataclass(frozen=True)
class Credentials:
    """What a party's kit holds: its own key and certificate, the CA, and all parties' pins."""

    folder: Path
    service: str
    own: Peer
    peers: tuple[Peer, ...]
    expires: datetime
    _client: ssl.SSLContext = field(repr=False, compare=False)
    _server: ssl.SSLContext = field(repr=False, compare=False)

    def context(self, *, server: bool) -> ssl.SSLContext:
        """Return the TLS context for the side that listens, or for the one that connects."""
        return self._server if server else self._client

    def expiry(self) -> str:
        """Return a warning where this party's certificate or the CA's soon ends; else nothing."""
        return soon_over(self.own, self.expires)

    def address_of(self, role: Role) -> str:
        """Return where the party of a role listens.

        Raises
        ------
        ServiceError
            If the peers file has none, or several.
        """
        found = [peer.address for peer in self.peers if peer.role == role and peer.address]
        if len(found) != 1:
            raise ServiceError(
                f"{self.folder / PEERS_FILE} has {len(found)} addresses of a {role}; expected "
                "one; give the address (host:port) yourself"
            )
        return found[0]

    def identify(self, certificate: bytes | None, roles: Collection[Role]) -> Peer:
        """Return whose certificate (DER) this is, which TLS has found signed by the CA and valid.

        Raises
        ------
        ServiceError
            If there is none, it names no role or another one than `roles`, or is not pinned.
        """
        if not certificate:
            raise ServiceError("showed no certificate; expected one of this service")
        with reading("its certificate", error=ServiceError, expected="one of this service"):
            read = x509.load_der_x509_certificate(certificate)
        role, name = read_identity(read)
        if role not in roles:
            raise ServiceError(f"has the role {role}; expected {' or '.join(roles)}")
        known = next((peer for peer in self.peers if (peer.role, peer.name) == (role, name)), None)
        if known is not None and (seen := known.seen(read)) is not None:
            return seen
        raise ServiceError(
            f"is {role} {name} with the certificate {fingerprint(read)}, which is not in "
            f"{PEERS_FILE}; expected a certificate that is pinned there"
        )


def service_uri(role: Role, name: str) -> str:
    """Return how a certificate names the role and the name of its owner."""
    return f"{_URI}{role}:{name}"


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate as `openssl x509 -fingerprint -sha256` shows it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def key_fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate's public key (its SubjectPublicKeyInfo).

    Raises
    ------
    ServiceError
        If it is none.
    """
    with reading("its public key", error=ServiceError, expected="one of a known kind"):
        der = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).digest().hex(":").upper()


def soon_over(peer: Peer, expires: datetime | None) -> str:
    """Return a warning where a party's certificate ends within 30 days; else nothing."""
    left = (expires - datetime.now(UTC)) if expires else _AHEAD
    if left >= _AHEAD:
        return ""
    whom = peer.name if peer.role == "data-owner" else peer.role
    return (
        f"the certificate of {peer} ends on {expires:%Y-%m-%d}, in {max(left.days, 0)} days; who "
        f"keeps the service's CA renews it: primia provision service renew=[{whom}]"
    )


def read_identity(certificate: x509.Certificate) -> tuple[Role, str]:
    """Return the role and the name that stand in a certificate.

    Raises
    ------
    ServiceError
        If it does not have exactly one URI of that form with a known role.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    except Exception:  # of extensions that a stranger wrote almost anything comes
        uris = []
    identities = [uri.removeprefix(_URI).split(":") for uri in uris if uri.startswith(_URI)]
    if len(identities) == 1 and len(identities[0]) == 2:
        role, name = identities[0]
        if role in _ROLES and _NAME.fullmatch(name):
            return role, name
    raise ServiceError(
        f"has a certificate with the names {uris!r:.200}; expected one {_URI}<role>:<name> with "
        f"a role of {', '.join(_ROLES)}"
    )


def load_credentials(folder: Path | str) -> Credentials:
    """Read a party's kit and check that its parts belong together.

    Raises
    ------
    ServiceError
        If a file is missing or unreadable, the key can be read by others or is not the
        certificate's, the certificate is not valid now, not signed by the CA, or not pinned in
        the party's own peers file.
    """
    folder = Path(folder)
    own, ca = (_certificate(folder / name) for name in (CERTIFICATE_FILE, CA_FILE))
    _check_certificate(folder / CERTIFICATE_FILE, own, ca)
    read_private(folder / KEY_FILE, error=ServiceError, expected="the kit's key")
    service, peers = read_peers(folder / PEERS_FILE, ca)
    try:
        role, name = read_identity(own)
    except ServiceError as error:
        raise ServiceError(f"{folder / CERTIFICATE_FILE} {error}") from None
    pinned = next((peer for peer in peers if (peer.role, peer.name) == (role, name)), None)
    me = pinned.seen(own) if pinned is not None else None
    if me is None:
        raise ServiceError(
            f"{folder / PEERS_FILE} does not have the certificate of {role} {name} that lies "
            f"beside it ({fingerprint(own)}); expected the files of one kit"
        )
    contexts = (
        _context(folder, side) for side in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER)
    )
    expires = min(own.not_valid_after_utc, ca.not_valid_after_utc)
    return Credentials(folder, service, me, peers, expires, *contexts)


def read_peers(file: Path, ca: x509.Certificate) -> tuple[str, tuple[Peer, ...]]:
    """Read a peers file; return the service's name and all its parties.

    Raises
    ------
    ServiceError
        If it is missing, is no peers file, names a party or a fingerprint twice, or belongs to
        another CA.
    """
    expected = f"the {PEERS_FILE} that `primia provision service` wrote"
    with reading(file, error=ServiceError, expected=expected):
        text = read_text(file, at_most=_MAX_FILE_BYTES)
        content = load_mapping(text, what="it", at_most=MAX_ROSTER_CHARACTERS)
        service = _text(content.pop("service"))
        ca_fingerprint = _pairs(_text(content.pop("ca_fingerprint")), "the CA")
        peers = tuple(_peer(entry) for entry in content.pop("peers"))
        if content:
            raise ValueError(f"it has the unknown entry {next(iter(content))!r}")
    for what, keys in (
        ("party", [f"{peer.role} {peer.name}" for peer in peers]),
        ("fingerprint", [peer.fingerprint for peer in peers]),
        ("key", [peer.key for peer in peers if peer.key]),
    ):
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise ServiceError(f"{file} has the {what} {min(twice)} twice; expected it once")
    if ca_fingerprint != fingerprint(ca):
        raise ServiceError(
            f"{file} belongs to the CA {ca_fingerprint}; {file.with_name(CA_FILE)} is "
            f"{fingerprint(ca)}; expected the files of one kit"
        )
    return service, peers


def _peer(entry: dict[str, Any]) -> Peer:
    if "expires" in entry:
        raise ValueError("it has the unknown entry 'expires'")
    peer = Peer(**{key: _text(value) for key, value in entry.items()})
    if peer.role not in _ROLES:
        raise ValueError(f"the role {peer.role!r} is none of {', '.join(_ROLES)}")
    if not _NAME.fullmatch(peer.name):
        raise ValueError(f"a party has the name {peer.name!r:.40}")
    key = _pairs(peer.key, f"the key of {peer}") if peer.key else ""
    return replace(peer, fingerprint=_pairs(peer.fingerprint, str(peer)), key=key)


def _pairs(fingerprint: str, whose: str) -> str:
    """Return a fingerprint as `openssl` writes it."""
    raw = bytes.fromhex(fingerprint.replace(":", ""))
    if len(raw) != 32:
        raise ValueError(f"{whose} has the fingerprint {fingerprint!r:.100}, which is no SHA-256")
    return raw.hex(":").upper()


def _text(value: object) -> Any:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _certificate(file: Path) -> x509.Certificate:
    expected = "a certificate of the kit that `primia provision service` made"
    with reading(file, error=ServiceError, expected=expected):
        certificate = x509.load_pem_x509_certificate(read_bytes(file, at_most=_MAX_FILE_BYTES))
        _ = certificate.public_key(), certificate.not_valid_after_utc, certificate.extensions
        return certificate


def _check_certificate(file: Path, own: x509.Certificate, ca: x509.Certificate) -> None:
    try:
        own.verify_directly_issued_by(ca)
    except Exception:  # also of signature algorithms that nobody knows
        raise ServiceError(
            f"{file} is not signed by {file.with_name(CA_FILE)}; expected the files of one kit"
        ) from None
    if not own.not_valid_before_utc <= datetime.now(UTC) <= own.not_valid_after_utc:
        raise ServiceError(
            f"{file} is valid from {own.not_valid_before_utc:%Y-%m-%d} to "
            f"{own.not_valid_after_utc:%Y-%m-%d}; expected a certificate that is valid now; "
            "check this computer's clock, or have it renewed: primia provision service renew=[...]"
        )


def _context(folder: Path, side: int) -> ssl.SSLContext:
    """Return a context for TLS 1.3 with certificates on both sides, this service's CA alone."""
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if side == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # nothing is resumed: every link begins with certificates
    try:
        context.load_verify_locations(cafile=folder / CA_FILE)
        context.load_cert_chain(folder / CERTIFICATE_FILE, folder / KEY_FILE, password=_no_password)
    except (OSError, ValueError) as error:
        raise ServiceError(
            f"{folder / KEY_FILE} cannot be used ({_reason(error)}); expected the unencrypted key "
            f"of {CERTIFICATE_FILE} beside it"
        ) from None
    return context


def _reason(error: Exception) -> str:
    """Return what OpenSSL says, without its codes."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return reason_of(error)


def _no_password() -> str:
    return ""
