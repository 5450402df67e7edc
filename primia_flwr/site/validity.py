"""How long certificates are valid: the CA's in a file, and the one that a SuperLink shows.

Nothing here trusts anybody: it says what is wrong where a connection has failed, or will fail.
"""

import contextlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from primia_flwr.errors import FederationError
from primia_flwr.storage.reading import read_bytes, reading

_AHEAD = timedelta(days=30)
_SECONDS = 5.0  # for the SuperLink to show its certificate


@dataclass(frozen=True)
class _Ending:
    """A certificate that is not valid, or not for long; `over`: it is not valid now."""

    what: str
    when: str
    remedy: str
    over: bool

    @property
    def sentence(self) -> str:
        """All of it."""
        return f"{self.what} {self.when}; {self.remedy}"


@dataclass(frozen=True)
class _Remedies:
    """What to do about the CA's certificate, and about the SuperLink's."""

    ca: str
    superlink: str


AT_SITE = _Remedies(
    ca="ask the coordinator for the ca.crt that `primia federation renew` writes, and take it in: "
    "primia site ca ca.crt",
    superlink="ask the coordinator to run `primia federation renew` and to start the SuperLink "
    "again",
)


def at_coordinator(name: str) -> _Remedies:
    """Return what the coordinator of the federation `name` does about them."""
    verb = f"primia federation renew name={name}"
    return _Remedies(
        ca=f"run {verb}, and send the new ca.crt to the sites",
        superlink=f"run {verb}, and start the SuperLink again",
    )


def ca_ending(file: Path, remedies: _Remedies, *, now: datetime | None = None) -> _Ending | None:
    """Return that a CA's certificate is not valid, or not for long; None where all is well.

    Raises
    ------
    FederationError
        If the file cannot be read.
    """
    certificate = read_certificate(file)
    return _ending(f"root_certificates={file}", certificate, remedies.ca, now)


def superlink_ending(
    address: str, ca_file: Path, remedies: _Remedies, *, now: datetime | None = None
) -> _Ending | None:
    """Return that the certificate which a SuperLink shows is not valid, or not for long.

    None where all is well, nobody answers, or the certificate is not one of this CA.

    Raises
    ------
    FederationError
        If `ca_file` cannot be read.
    """
    ca = read_certificate(ca_file)
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError, ValueError, FederationError):
        pem = ssl.get_server_certificate((host.strip("[]"), int(port)), timeout=_SECONDS)
        certificate = _of_ca(pem, ca)
        what = f"the certificate of superlink={address}"
        return _ending(what, certificate, remedies.superlink, now)
    return None


def check_endings(address: str, ca_file: Path, remedies: _Remedies) -> list[str]:
    """Return warnings of certificates that end within 30 days; the CA's first.

    Raises
    ------
    FederationError
        If one is not valid now, or `ca_file` cannot be read.
    """
    found = [ca_ending(ca_file, remedies), superlink_ending(address, ca_file, remedies)]
    for ending in found:
        if ending and ending.over:
            raise FederationError(ending.sentence)
    return [ending.sentence for ending in found if ending]


def read_certificate(file: Path) -> x509.Certificate:
    """Read a certificate in PEM form.

    Raises
    ------
    FederationError
        If the file cannot be read, or is no certificate.
    """
    expected = "a certificate in PEM form, as `primia provision` writes it"
    with reading(file, error=FederationError, expected=expected):
        return x509.load_pem_x509_certificate(read_bytes(file))


def _of_ca(pem: str, ca: x509.Certificate) -> x509.Certificate:
    """Read the certificate that somebody showed, if it is one of this CA."""
    with reading("what it showed", error=FederationError, expected="a certificate of the CA"):
        certificate = x509.load_pem_x509_certificate(pem.encode())
        certificate.verify_directly_issued_by(ca)
        return certificate


def _ending(
    what: str, certificate: x509.Certificate, remedy: str, now: datetime | None
) -> _Ending | None:
    now = now or datetime.now(UTC)
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < since:
        when = f"is valid from {since:%Y-%m-%d %H:%M} UTC on, and it is {now:%Y-%m-%d %H:%M} here"
        return _Ending(what, when, "set the clocks of both computers", over=True)
    if now > until:
        when = f"expired on {until:%Y-%m-%d %H:%M} UTC ({_days(now - until)} ago)"
        return _Ending(what, when, remedy, over=True)
    if until - now < _AHEAD:
        when = f"ends on {until:%Y-%m-%d %H:%M} UTC, in {_days(until - now)}"
        return _Ending(what, when, remedy, over=False)
    return None


def _days(span: timedelta) -> str:
    return f"{span.days} day{'' if span.days == 1 else 's'}"
