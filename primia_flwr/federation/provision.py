"""Provision a federation: a CA, the SuperLink's certificate, and a start-up kit for each site.

All is made once, in one folder that must not exist yet. The CA's private key and the
SuperLink's stay in the coordinator's folder; a kit holds one site's private keys and only
public things besides.
"""

import re
import shutil
import stat
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from primia_flwr.errors import FederationError
from primia_flwr.federation import certificates as certs
from primia_flwr.federation import kit_texts
from primia_flwr.federation.roster import Roster, RosterSite
from primia_flwr.federation.superlink import SuperLinkFiles

_LOOPBACK = ("127.0.0.1", "localhost")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


@dataclass(frozen=True)
class Federation:
    """What was provisioned: the coordinator's folder, the roster, and the sites' kits."""

    folder: Path
    roster: Roster
    kits: dict[str, Path]

    @property
    def files(self) -> SuperLinkFiles:
        """The SuperLink's files."""
        return SuperLinkFiles(self.folder)

    @property
    def roster_file(self) -> Path:
        """The roster."""
        return self.folder / "roster.yaml"


def provision(
    *,
    name: str,
    sites: Sequence[str],
    server: str,
    port: int,
    output: Path,
    days: int,
    loopback: bool,
    min_sites: int,
) -> Federation:
    """Make the keys, certificates, roster and kits of a federation in the new folder `output`.

    `server` is the DNS name or address at which the sites reach the SuperLink; with `loopback`
    its certificate also holds for 127.0.0.1, where the coordinator's own processes connect.
    Certificates are valid for `days`.

    Raises
    ------
    FederationError
        If a name does not fit, or something is there already (nothing is overwritten).
    """
    _check_names(name, sites)
    if output.exists():
        raise FederationError(
            f"output={output} exists; expected a folder that does not exist yet, since keys are "
            "never overwritten; choose another name= or output="
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    building = output.with_name(f".{output.name}.part")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(mode=0o700)
    try:
        roster = _make_all(building, name, sites, server, port, days, loopback, min_sites)
        building.rename(output)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return Federation(output, roster, {site: output / f"kit-{site}" for site in sites})


def write_deployment(federation: Federation, conf: Path) -> Path:
    """Write `deployment/<name>.yaml`, the Hydra choice `deployment=<name>`, below `conf`.

    Raises
    ------
    FederationError
        If it is there already.
    """
    roster = federation.roster
    file = conf / "deployment" / f"{roster.federation}.yaml"
    if file.exists():
        raise FederationError(
            f"{file} exists; expected no deployment called {roster.federation}; choose another "
            "name=, or delete the old one first"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    section = {
        "name": roster.federation,
        "kind": "deployment",
        "superlink": roster.superlink,
        "root_certificates": str(federation.files.ca.resolve()),
        "roster": str(federation.roster_file.resolve()),
        "isolation": "process",
        "nodes": {},
    }
    names = ", ".join(roster.names())
    header = f"# The federation {roster.federation}: {names}. Written by `primia provision`.\n"
    file.write_text(header + yaml.safe_dump(section, sort_keys=False, width=200))
    return file


def _check_names(name: str, sites: Sequence[str]) -> None:
    if not sites:
        raise FederationError("sites=[]; expected at least one site, e.g. sites=[munich,paris]")
    for key, value in [("name", name), *(("sites", site) for site in sites)]:
        if not _NAME.fullmatch(value):
            raise FederationError(
                f"{key}={value!r}; expected 1 to 32 letters, digits, '-' or '_', e.g. munich"
            )
    if len({site.lower() for site in sites}) != len(sites):
        raise FederationError(f"sites={list(sites)}; expected different names")


def _make_all(
    folder: Path,
    name: str,
    sites: Sequence[str],
    server: str,
    port: int,
    days: int,
    loopback: bool,
    min_sites: int,
) -> Roster:
    authority = certs.make_authority(name, days=days)
    files = SuperLinkFiles(folder)
    certs.write_private(folder / "ca.key", certs.private_bytes(authority.key, openssh=False))
    certs.write_certificate(files.ca, authority.certificate)
    names = list(dict.fromkeys([server, *(_LOOPBACK if loopback else ())]))
    key, certificate = certs.issue_server_certificate(authority, names, days=days)
    certs.write_private(files.key, certs.private_bytes(key, openssh=False))
    certs.write_certificate(files.certificate, certificate)
    superlink = f"[{server}]:{port}" if ":" in server else f"{server}:{port}"
    roster = Roster(
        federation=name,
        superlink=superlink,
        ca_fingerprint=certs.certificate_fingerprint(authority.certificate),
        sites=tuple(_make_keys(folder / f"kit-{site}", site) for site in sites),
    )
    (folder / "roster.yaml").write_text(roster.to_yaml())
    keys = folder / "keys"
    keys.mkdir()
    for entry in roster.sites:
        (keys / f"{entry.name}.pub").write_text(entry.supernode_key + "\n")
        _complete_kit(folder / f"kit-{entry.name}", entry, roster, files.ca, min_sites)
    return roster


def _make_keys(kit: Path, site: str) -> RosterSite:
    kit.mkdir(mode=0o700)
    supernode, identity = certs.make_supernode_key(), certs.make_identity_key()
    certs.write_private(kit / "supernode.key", certs.private_bytes(supernode, openssh=True))
    certs.write_private(kit / "identity.key", certs.private_bytes(identity, openssh=True))
    supernode_line = certs.openssh_public(supernode, site).strip()
    identity_line = certs.openssh_public(identity, f"{site}-identity").strip()
    return RosterSite(
        name=site,
        supernode_key=supernode_line,
        supernode_fingerprint=certs.fingerprint(supernode_line),
        identity_key=identity_line,
        identity_fingerprint=certs.fingerprint(identity_line),
    )


def _complete_kit(kit: Path, site: RosterSite, roster: Roster, ca: Path, min_sites: int) -> None:
    shutil.copyfile(ca, kit / "ca.crt")
    (kit / "roster.yaml").write_text(roster.to_yaml())
    (kit / "site.yaml").write_text(kit_texts.site_yaml(site, roster, min_sites=min_sites))
    (kit / "README.md").write_text(kit_texts.readme(site, roster))
    _zip(kit, kit.with_suffix(".zip"))


def _zip(kit: Path, target: Path) -> None:
    certs.write_private(target, b"")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(kit.iterdir()):
            entry = zipfile.ZipInfo.from_file(file, f"{kit.name}/{file.name}")
            mode = stat.S_IMODE(file.stat().st_mode)
            entry.external_attr = (stat.S_IFREG | mode) << 16
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
