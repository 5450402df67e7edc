"""What `primia federation add`, `reissue`, `revoke` and `renew` have in common."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from primia_flwr.cli.federation.status import deployment_of
from primia_flwr.config.checks import check_range
from primia_flwr.config.experiment.deployment import DeploymentConfig
from primia_flwr.errors import FederationError
from primia_flwr.provisioning.federation_changes import FederationFolder
from primia_flwr.provisioning.nodes import register_sites


@dataclass
class KitArguments:
    """Which sites get kits, of which federation; `min_sites`: what their policies start with."""

    name: str = "fl"
    sites: list[str] = field(default_factory=list)
    min_sites: int = 2
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("min_sites", self.min_sites, 1, 1000, example=3)


def open_folder(name: str) -> tuple[FederationFolder, DeploymentConfig]:
    """Return the folder of a provisioned federation, which is that of its roster.

    Raises
    ------
    PrimiaError
        If there is no such federation, or its roster cannot be read.
    """
    section = deployment_of(name)
    return FederationFolder(Path(section.roster).parent), section


def told_superlink(folder: FederationFolder, section: DeploymentConfig) -> str:
    """Register and unregister keys at the SuperLink; return nothing, or why not."""
    try:
        register_sites(
            section.superlink,
            Path(section.root_certificates),
            folder.roster,
            revoked=folder.revoked_keys(),
        )
    except FederationError as error:
        return str(error).partition("; ")[0]
    return ""


def say_kits(folder: FederationFolder, kits: dict[str, Path], console: Console) -> None:
    """Say who gets which kit, and which fingerprints are read to whom."""
    show(
        console, "1. Give each site its kit over a safe way, and read it its fingerprints by phone:"
    )
    for site in folder.roster.sites:
        if site.name in kits:
            show(console, f"   {kits[site.name]}  {site.supernode_fingerprint}")
    show(console, "   then delete the kit here: it holds the site's private keys")


def say_roster(folder: FederationFolder, console: Console, *, step: int) -> None:
    """Say what the other sites do with the changed roster."""
    show(console, f"{step}. Send {folder.roster_file} to all sites. Each looks what has changed,")
    show(console, "   compares by phone with the other hospitals, and takes it in:")
    show(console, "   primia site roster new=roster.yaml")


def say_superlink(why_not: str, name: str, console: Console, *, step: int) -> None:
    """Say whether the SuperLink knows of it."""
    if not why_not:
        show(console, f"{step}. The SuperLink knows of it already: nothing is to be done there")
        return
    show(console, f"{step}. The SuperLink does not know of it yet ({why_not});")
    show(console, f"   when it runs: primia federation status name={name} register=true")


def show(console: Console, text: str) -> None:
    """Print a line as it is."""
    console.print(text, soft_wrap=True, highlight=False, markup=False)
