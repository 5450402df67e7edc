"""Keys and certificates of a federation: one CA, one SuperLink certificate, keys for the sites.

All elliptic-curve keys are P-384, which Flower's SuperNode authentication asks for; identities
are Ed25519. Randomness comes from the operating system through `cryptography`.
"""

import base64
import hashlib
import ipaddress
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHPrivateKeyTypes,
    SSHPublicKeyTypes,
    load_ssh_private_key,
    load_ssh_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from primia_flwr.errors import FederationError
from primia_flwr.storage.reading import read_private, reading

_CLOCK_SLACK = timedelta(hours=1)


@dataclass(frozen=True)
class Authority:
    """The federation's certificate authority."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def make_authority(name: str, *, days: int, of: str = "federation") -> Authority:
    """Make a CA that may sign certificates but no further CAs; `of` goes into its name."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = _name(f"{name} {of} CA")
    certificate = (
        _builder(subject, subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    return Authority(key, certificate)


def issue_server_certificate(
    authority: Authority, names: Sequence[str], *, days: int
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Issue a TLS server certificate for DNS names and IP addresses; the first names it."""
    alternatives = [alternative(name) for name in names]
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH]
    return issue_certificate(authority, names[0], alternatives, purposes, days=days)


def issue_certificate(
    authority: Authority,
    name: str,
    alternatives: Sequence[x509.GeneralName],
    purposes: Sequence[x509.ObjectIdentifier],
    *,
    days: int,
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Issue a certificate with these alternative names and extended key usages."""
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = certify(authority, key.public_key(), name, alternatives, purposes, days=days)
    return key, certificate


def certify(
    authority: Authority,
    key: ec.EllipticCurvePublicKey,
    name: str,
    alternatives: Sequence[x509.GeneralName],
    purposes: Sequence[x509.ObjectIdentifier],
    *,
    days: int,
) -> x509.Certificate:
    """Issue a certificate for a key that somebody else holds, as `issue_certificate`."""
    issuer = authority.certificate
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return (
        _builder(_name(name), issuer.subject, key, days)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(issuer_id, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .sign(authority.key, hashes.SHA384())
    )


def alternative(name: str) -> x509.GeneralName:
    """Return a DNS name or an IP address as it stands in a certificate."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def make_supernode_key() -> ec.EllipticCurvePrivateKey:
    """Make the key with which a site's SuperNode authenticates (P-384)."""
    return ec.generate_private_key(ec.SECP384R1())


def make_identity_key() -> ed25519.Ed25519PrivateKey:
    """Make a site's long-term signing identity (Ed25519)."""
    return ed25519.Ed25519PrivateKey.generate()


def openssh_public(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, comment: str
) -> str:
    """Return the public half in OpenSSH's one-line form, as `ssh-keygen` writes it."""
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return f"{line.decode()} {comment}\n"


def fingerprint(public_line: str) -> str:
    """Return the fingerprint that `ssh-keygen -l` shows: `SHA256:` and base64 of the key.

    Raises
    ------
    FederationError
        If the line is no OpenSSH public key.
    """
    with _reading_line(public_line):
        load_ssh_public_key(public_line.encode())
        blob = base64.b64decode(public_line.split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def public_key(public_line: str) -> SSHPublicKeyTypes:
    """Return the key in OpenSSH's one-line form.

    Raises
    ------
    FederationError
        If the line is no OpenSSH public key.
    """
    with _reading_line(public_line):
        return load_ssh_public_key(public_line.encode())


def certificate_fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 fingerprint as `openssl x509 -fingerprint -sha256` shows it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def private_bytes(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, *, openssh: bool
) -> bytes:
    """Return an unencrypted private key, in OpenSSH's or in PKCS #8 form."""
    form = PrivateFormat.OpenSSH if openssh else PrivateFormat.PKCS8
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def write_private(file: Path, content: bytes) -> None:
    """Write a new file that only its owner can read; it never exists with another mode."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)


def write_certificate(file: Path, certificate: x509.Certificate) -> None:
    """Write a certificate as PEM."""
    file.write_bytes(certificate.public_bytes(Encoding.PEM))


def load_private(file: Path) -> SSHPrivateKeyTypes:
    """Read a private key in OpenSSH's form, without a password.

    Raises
    ------
    FederationError
        If the file cannot be read, is no OpenSSH private key, or others can read it.
    """
    expected = "an OpenSSH private key; unzip the start-up kit again"
    content = read_private(file, error=FederationError, expected=expected)
    with reading(file, error=FederationError, expected=expected):
        return load_ssh_private_key(content, None)


def public_line_of(private_key_file: Path) -> str:
    """Return the OpenSSH public line of a private key file.

    Raises
    ------
    FederationError
        As `load_private`.
    """
    public = load_private(private_key_file).public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _reading_line(public_line: str) -> AbstractContextManager[None]:
    shown = f"public key {public_line[:30]!r}"
    return reading(shown, error=FederationError, expected="an OpenSSH line")


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SLACK)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
