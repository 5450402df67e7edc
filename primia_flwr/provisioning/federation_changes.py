"""Change a federation without a new one: sites come, go, get other keys; certificates are renewed.

The CA's key stays, and with it what the sites trust. A site's keys stay unless it is re-issued.
The other sites take a changed roster in themselves (`primia site roster`), after a phone call.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from filelock import FileLock

from primia_flwr.errors import FederationError
from primia_flwr.flower.superlink import SuperLinkFiles
from primia_flwr.provisioning import certificates as certs
from primia_flwr.provisioning.federation import CA_DAYS, complete_kit, make_keys
from primia_flwr.provisioning.kits import check_name, zip_kit
from primia_flwr.provisioning.renewal import load_authority, renewed_authority, renewed_certificate
from primia_flwr.provisioning.roster import Roster, RosterSite, load_roster
from primia_flwr.site.validity import read_certificate
from primia_flwr.storage.atomic import write_atomic, writing
from primia_flwr.storage.reading import read_text, reading

_REVOKED = "revoked"  # folder of the keys that the SuperLink shall take no more


@dataclass(frozen=True)
class _Renewed:
    """The SuperLink's new certificate and the old one.

    `ca`: the CA's own was renewed as well, for the same key.
    """

    certificate: x509.Certificate
    old: x509.Certificate
    ca: x509.Certificate | None


class FederationFolder:
    """The coordinator's folder of a federation, as `primia provision` made it.

    Parameters
    ----------
    folder : Path
        With the roster.

    Raises
    ------
    FederationError
        If the roster cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = SuperLinkFiles(folder)
        self.roster_file = folder / "roster.yaml"
        self.roster = load_roster(self.roster_file)

    def add(
        self, names: Sequence[str], *, min_sites: int, software: bool = False
    ) -> dict[str, Path]:
        """Make kits for new sites; return the zipped kits by site.

        Raises
        ------
        FederationError
            If a name is no name, or is on the roster, or a kit of it lies there; nothing is
            changed then.
        """
        known = {name.lower() for name in self.roster.names()}
        for name in names:
            check_name("sites", name)
            if name.lower() in known:
                raise FederationError(
                    f"sites={name} is on the roster already; expected a new name; for other keys "
                    f"of the same site run primia federation reissue sites=[{name}]"
                )
        return self._issue(names, min_sites, software)

    def reissue(
        self, names: Sequence[str], *, min_sites: int, software: bool = False
    ) -> dict[str, Path]:
        """Make kits with other keys for sites of the roster; the old keys are revoked.

        Raises
        ------
        FederationError
            If the roster does not have a site, or a kit of it lies there; nothing is changed then.
        """
        self._check_known(names)
        return self._issue(names, min_sites, software)

    def revoke(self, names: Sequence[str]) -> None:
        """Take sites off the roster and revoke their keys.

        Raises
        ------
        FederationError
            If the roster does not have a site, or no site would be left; nothing is changed then.
        """
        self._check_known(names)
        left = tuple(site for site in self.roster.sites if site.name not in names)
        if not left:
            raise FederationError(
                f"sites=[{','.join(names)}] are all that the roster has; expected one that stays; "
                "provision a new federation instead"
            )
        with self._changing():
            self._put_aside(names)
            self._write(replace(self.roster, sites=left))

    def renew(self, *, days: int) -> _Renewed:
        """Renew the SuperLink's certificate, and the CA's own where it would end before.

        Keys and names stay, so what the sites have goes on to hold.

        Raises
        ------
        FederationError
            If the CA's key is not there or not this CA's, or a file cannot be read or written.
        """
        authority = load_authority(self.folder)
        until = authority.certificate.not_valid_after_utc
        ends = until < datetime.now(UTC) + timedelta(days=days)
        ca = renewed_authority(authority, days=max(days, CA_DAYS)) if ends else None
        old = read_certificate(self.files.certificate)
        certificate = renewed_certificate(authority, old, days=days)
        with self._changing():
            if ca is not None:
                write_atomic(self.files.ca, ca.public_bytes(Encoding.PEM))
                fingerprint = certs.certificate_fingerprint(ca)
                self._write(replace(self.roster, ca_fingerprint=fingerprint))
            write_atomic(self.files.certificate, certificate.public_bytes(Encoding.PEM))
        return _Renewed(certificate, old, ca)

    def revoked_keys(self) -> list[str]:
        """Return the public lines of all keys that were ever revoked.

        Raises
        ------
        FederationError
            If one cannot be read.
        """
        files = sorted((self.folder / "keys" / _REVOKED).glob("*.pub"))
        return [_public_line(file) for file in files]

    def _free(self, names: Sequence[str]) -> dict[str, Path]:
        """Return where the kits of new sites go; refuse to write over others."""
        if not names or len({name.lower() for name in names}) != len(names):
            raise FederationError(
                f"sites=[{','.join(names)}]; expected different names, e.g. [rome]"
            )
        kits = {name: self.folder / f"kit-{name}" for name in names}
        for kit in kits.values():
            for left in (kit, kit.with_suffix(".zip")):
                if left.exists():
                    raise FederationError(
                        f"{left} exists; expected no kit of that name, since keys are never "
                        "overwritten; move or delete it"
                    )
        return kits

    def _issue(self, names: Sequence[str], min_sites: int, software: bool) -> dict[str, Path]:
        kits = self._free(names)
        with self._changing(), TemporaryDirectory(prefix=".adding-", dir=self.folder) as scratch:
            drafts = Path(scratch)
            made = {name: make_keys(drafts / f"kit-{name}", name) for name in names}
            roster = self._with(made)
            for name, site in made.items():
                draft = drafts / f"kit-{name}"
                complete_kit(
                    draft, site, roster, self.files.ca, min_sites=min_sites, software=software
                )
                zip_kit(draft)
            self._put_aside(names)
            (self.folder / "keys").mkdir(mode=0o700, exist_ok=True)
            for name, kit in kits.items():
                os.replace(drafts / f"kit-{name}", kit)
                os.replace(drafts / f"kit-{name}.zip", kit.with_suffix(".zip"))
                write_atomic(self.folder / "keys" / f"{name}.pub", made[name].supernode_key + "\n")
            self._write(roster)
        return {name: kit.with_suffix(".zip") for name, kit in kits.items()}

    def _with(self, made: dict[str, RosterSite]) -> Roster:
        """Return the roster with new entries in the place of their sites', or at the end."""
        kept = [made.get(site.name, site) for site in self.roster.sites]
        new = [site for name, site in made.items() if name not in self.roster.names()]
        return replace(self.roster, sites=(*kept, *new))

    def _check_known(self, names: Sequence[str]) -> None:
        unknown = [name for name in names if name not in self.roster.names()]
        if unknown or not names:
            raise FederationError(
                f"sites=[{','.join(unknown)}]; expected sites of the roster: "
                f"{', '.join(self.roster.names())}"
            )

    def _put_aside(self, names: Sequence[str]) -> None:
        """Remember the keys of sites as revoked, before anything else is changed."""
        folder = self.folder / "keys" / _REVOKED
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for site in self.roster.sites:
            if site.name in names:
                mark = hashlib.sha256(site.supernode_key.encode()).hexdigest()[:16]
                write_atomic(folder / f"{site.name}-{mark}.pub", site.supernode_key + "\n")
                (self.folder / "keys" / f"{site.name}.pub").unlink(missing_ok=True)

    def _write(self, roster: Roster) -> None:
        write_atomic(self.roster_file, roster.to_yaml())
        self.roster = roster

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Let one process change the folder at a time, and say what cannot be written."""
        remedy = "expected a writable folder with free space"
        with (
            writing(self.folder, error=FederationError, remedy=remedy),
            FileLock(self.folder / ".changing"),
        ):
            if load_roster(self.roster_file) != self.roster:
                raise FederationError(
                    f"{self.roster_file} was changed meanwhile; expected one change at a time; "
                    "run the command again"
                )
            yield


def _public_line(file: Path) -> str:
    expected = "an OpenSSH public key, as this program put it there"
    with reading(file, error=FederationError, expected=expected):
        line = read_text(file).strip()
        certs.fingerprint(line)
    return line
