"""Provision a federation: a CA, the SuperLink's certificate, and a start-up kit for each site.

All is made once, in one folder that must not exist yet. The CA's private key and the
SuperLink's stay in the coordinator's folder; a kit holds one site's private keys and only
public things besides.
"""

import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from primia_flwr.errors import FederationError
from primia_flwr.flower.superlink import SuperLinkFiles
from primia_flwr.provisioning import certificates as certs
from primia_flwr.provisioning.kit import texts, units
from primia_flwr.provisioning.kit.software import NO_SOFTWARE, put_software
from primia_flwr.provisioning.kits import check_name, new_folder, zip_kit
from primia_flwr.provisioning.roster import Roster, RosterSite

CA_DAYS = 3650  # the CA outlives the certificates that it renews
_LOOPBACK = ("127.0.0.1", "localhost")


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
    `software`: each kit brings the wheel of what is installed here.
    """

    name: str
    sites: Sequence[str]
    server: str
    port: int
    days: int = 730
    loopback: bool = True
    min_sites: int = 2
    software: bool = False

    def __post_init__(self) -> None:
        if not self.sites:
            raise FederationError("sites=[]; expected at least one, e.g. sites=[munich,paris]")
        for key, value in [("name", self.name), *(("sites", site) for site in self.sites)]:
            check_name(key, value)
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
    with new_folder(output) as building:
        roster = _make_all(building, plan)
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
    files = SuperLinkFiles(folder)
    authority = _make_certificates(files, plan)
    roster = Roster(
        federation=plan.name,
        superlink=plan.superlink,
        ca_fingerprint=certs.certificate_fingerprint(authority.certificate),
        sites=tuple(make_keys(folder / f"kit-{site}", site) for site in plan.sites),
    )
    (folder / "roster.yaml").write_text(roster.to_yaml())
    keys = folder / "keys"
    keys.mkdir()
    for site in roster.sites:
        (keys / f"{site.name}.pub").write_text(site.supernode_key + "\n")
        kit = folder / f"kit-{site.name}"
        complete_kit(kit, site, roster, files.ca, min_sites=plan.min_sites, software=plan.software)
        zip_kit(folder / f"kit-{site.name}")
    return roster


def _make_certificates(files: SuperLinkFiles, plan: Plan) -> certs.Authority:
    authority = certs.make_authority(plan.name, days=max(plan.days, CA_DAYS))
    ca_key = files.folder / "ca.key"
    certs.write_private(ca_key, certs.private_bytes(authority.key, openssh=False))
    certs.write_certificate(files.ca, authority.certificate)
    key, certificate = certs.issue_server_certificate(authority, plan.server_names, days=plan.days)
    certs.write_private(files.key, certs.private_bytes(key, openssh=False))
    certs.write_certificate(files.certificate, certificate)
    certs.write_private(files.secret, secrets.token_hex(32).encode())
    return authority


def make_keys(kit: Path, site: str) -> RosterSite:
    """Make a site's two private keys in the new folder `kit`; return its entry of the roster."""
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


def complete_kit(
    kit: Path, site: RosterSite, roster: Roster, ca: Path, *, min_sites: int, software: bool
) -> None:
    """Add to a site's keys what it must know of the federation, and the software."""
    how = put_software(kit) if software else NO_SOFTWARE
    unit = kit / f"primia-site-{site.name}.service"
    unit.write_text(units.site_unit(site.name, roster.federation))
    shutil.copyfile(ca, kit / "ca.crt")
    (kit / "roster.yaml").write_text(roster.to_yaml())
    (kit / "site.yaml").write_text(texts.site_yaml(site, roster, min_sites=min_sites))
    (kit / "README.md").write_text(texts.readme(site, roster, how))
