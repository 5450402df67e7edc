"""Provision a federation: a CA, the SuperLink's certificate, and a start-up kit for each site.

All is made once, in one folder that must not exist yet. The CA's private key and the
SuperLink's stay in the coordinator's folder; a kit holds one site's private keys and only
public things besides.
"""

import re
import secrets
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


@dataclass(frozen=True)
class Plan:
    """What to provision.

    `server` is the DNS name or address at which the sites reach the SuperLink; with `loopback`
    its certificate also holds for 127.0.0.1, where the coordinator's own processes connect.
    Certificates are valid for `days`; `min_sites` is what the sites' policies start with.
    """

    name: str
    sites: Sequence[str]
    server: str
    port: int
    days: int = 730
    loopback: bool = True
    min_sites: int = 2

    def __post_init__(self) -> None:
        if not self.sites:
            raise FederationError("sites=[]; expected at least one, e.g. sites=[munich,paris]")
        for key, value in [("name", self.name), *(("sites", site) for site in self.sites)]:
            if not _NAME.fullmatch(value):
                raise FederationError(
                    f"{key}={value!r}; expected 1 to 32 letters, digits, '-' or '_', e.g. munich"
                )
        if len({site.lower() for site in self.sites}) != len(self.sites):
            raise FederationError(f"sites={list(self.sites)}; expected different names")

    @property
    def superlink(self) -> str:
        """`host:port` at which the sites reach the SuperLink."""
        host = f"[{self.server}]" if ":" in self.server else self.server
        return f"{host}:{self.port}"

    @property
    def server_names(self) -> list[str]:
        """The names and addresses that the SuperLink's certificate holds for."""
        return list(dict.fromkeys([self.server, *(_LOOPBACK if self.loopback else ())]))


def provision(plan: Plan, output: Path) -> Federation:
    """Make the keys, certificates, roster and kits of a federation in the new folder `output`.

    Raises
    ------
    FederationError
        If something is there already (nothing is overwritten).
    """
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
        roster = _make_all(building, plan)
        building.rename(output)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return Federation(output, roster, {site: output / f"kit-{site}" for site in plan.sites})


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


def _make_all(folder: Path, plan: Plan) -> Roster:
    authority = _make_certificates(SuperLinkFiles(folder), plan)
    roster = Roster(
        federation=plan.name,
        superlink=plan.superlink,
        ca_fingerprint=certs.certificate_fingerprint(authority.certificate),
        sites=tuple(_make_keys(folder / f"kit-{site}", site) for site in plan.sites),
    )
    (folder / "roster.yaml").write_text(roster.to_yaml())
    keys = folder / "keys"
    keys.mkdir()
    for site in roster.sites:
        (keys / f"{site.name}.pub").write_text(site.supernode_key + "\n")
        _complete_kit(folder, site, roster, plan.min_sites)
    return roster


def _make_certificates(files: SuperLinkFiles, plan: Plan) -> certs.Authority:
    authority = certs.make_authority(plan.name, days=plan.days)
    ca_key = files.folder / "ca.key"
    certs.write_private(ca_key, certs.private_bytes(authority.key, openssh=False))
    certs.write_certificate(files.ca, authority.certificate)
    key, certificate = certs.issue_server_certificate(authority, plan.server_names, days=plan.days)
    certs.write_private(files.key, certs.private_bytes(key, openssh=False))
    certs.write_certificate(files.certificate, certificate)
    certs.write_private(files.secret, secrets.token_hex(32).encode())
    return authority


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


def _complete_kit(folder: Path, site: RosterSite, roster: Roster, min_sites: int) -> None:
    kit = folder / f"kit-{site.name}"
    shutil.copyfile(folder / "ca.crt", kit / "ca.crt")
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
