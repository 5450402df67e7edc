"""Renew the certificates of a federation: the same keys and names, a later end.

A site trusts the CA's key. So a renewed CA certificate is taken in without a phone call, if it is
of the key that the site has (`take_in_ca`), and the SuperLink's without any work at a site.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from primia_flwr.errors import FederationError
from primia_flwr.provisioning import certificates as certs
from primia_flwr.provisioning.roster import load_roster
from primia_flwr.site.validity import read_certificate
from primia_flwr.storage.atomic import write_together, writing
from primia_flwr.storage.reading import read_private, reading

_CLOCK_SLACK = timedelta(hours=1)


def load_authority(folder: Path) -> certs.Authority:
    """Read the CA of a federation, with its key.

    Raises
    ------
    FederationError
        If a file cannot be read, or the key is not the certificate's.
    """
    file, ca = folder / "ca.key", folder / "ca.crt"
    expected = f"the key of {ca}, which signs; bring it back from where you keep it"
    certificate = read_certificate(ca)
    content = read_private(file, error=FederationError, expected=expected)
    with reading(file, error=FederationError, expected=expected):
        key = load_pem_private_key(content, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("it is a key of another kind")
        if key.public_key() != certificate.public_key():
            raise ValueError("it is the key of another certificate")
    return certs.Authority(key, certificate)


def renewed_certificate(
    authority: certs.Authority, old: x509.Certificate, *, days: int
) -> x509.Certificate:
    """Return a certificate for the key of `old`, with all that `old` says, valid for `days`.

    Raises
    ------
    FederationError
        If `old` is not one of this CA, or says other things than `primia provision` writes.
    """
    expected = "the superlink.crt that `primia provision` wrote"
    with reading("the SuperLink's certificate", error=FederationError, expected=expected):
        old.verify_directly_issued_by(authority.certificate)
        key, extensions = old.public_key(), old.extensions
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise TypeError("it has a key of another kind")
        (name,) = old.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        purposes = list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        return certs.certify(authority, key, str(name.value), names, purposes, days=days)


def renewed_authority(authority: certs.Authority, *, days: int) -> x509.Certificate:
    """Return another certificate of the CA for its own key, valid for `days`."""
    old, now = authority.certificate, datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.subject)
        .public_key(authority.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SLACK)
        .not_valid_after(now + timedelta(days=days))
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(authority.key, hashes.SHA384())


def take_in_ca(new_file: Path, ca_file: Path, roster_file: Path) -> x509.Certificate:
    """Put a renewed CA certificate in the place of a site's own.

    Parameters
    ----------
    new_file : Path
        What the coordinator sent; it is the same CA if it has the same name and key.
    ca_file, roster_file : Path
        The site's own files, which are changed.

    Raises
    ------
    FederationError
        If a file cannot be read or written, or the new one is another CA's or not valid today;
        nothing is changed then.
    """
    new, own = read_certificate(new_file), read_certificate(ca_file)
    expected = f"a renewed certificate of the CA of {ca_file}; ask the coordinator for it again"
    with reading(new_file, error=FederationError, expected=expected):
        if new.public_key() != own.public_key() or new.subject != own.subject:
            raise ValueError(
                f"it is another CA, {certs.certificate_fingerprint(new)}, which this site has no "
                "reason to trust"
            )
        new.verify_directly_issued_by(new)
        constraints = new.extensions.get_extension_for_class(x509.BasicConstraints).value
        if not constraints.ca:
            raise ValueError("it is no certificate of a CA")
        if not new.not_valid_before_utc <= datetime.now(UTC) <= new.not_valid_after_utc:
            raise ValueError(f"it is valid to {new.not_valid_after_utc:%Y-%m-%d}, not today")
    roster = replace(load_roster(roster_file), ca_fingerprint=certs.certificate_fingerprint(new))
    with writing(ca_file, error=FederationError, remedy="expected a writable folder"):
        write_together({ca_file: new.public_bytes(Encoding.PEM), roster_file: roster.to_yaml()})
    return new
