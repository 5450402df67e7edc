"""`primia provision`: everything that a real federation needs before it starts."""

import hashlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.config.checks import check_host, check_range
from primia_flwr.errors import ConfigError, FederationError
from primia_flwr.provisioning.federation import Federation, Plan, provision, write_deployment
from primia_flwr.provisioning.kit import units as systemd
from primia_flwr.provisioning.kit.wheel import make_wheel
from primia_flwr.storage.atomic import writing

_CONF = Path("federations") / "conf"


@dataclass
class _ProvisionArguments:
    """Arguments of `primia provision`; `output` empty means `federations/<name>`."""

    name: str = "fl"
    sites: list[str] = field(default_factory=list)
    server: str = ""
    port: int = 9391
    output: str = ""
    days: int = 730
    loopback: bool = True
    min_sites: int = 2
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("port", self.port, 1, 65535, example=9391)
        check_range("days", self.days, 1, 3650, example=730)
        check_range("min_sites", self.min_sites, 1, 1000, example=3)


_WRITABLE = "expected a writable folder with free space; give another by output=<folder>"


def _run(cfg: _ProvisionArguments) -> dict[str, Any]:
    """Make the federation, print what to do next, and return the written files."""
    _check(cfg)
    wheel, content = make_wheel()
    output = Path(cfg.output or f"federations/{cfg.name}")
    with writing(f"output={output}", error=FederationError, remedy=_WRITABLE):
        federation = provision(_plan_of(cfg), output)
        deployment = write_deployment(federation, _CONF)
        address = f"127.0.0.1:{cfg.port}" if cfg.loopback else federation.roster.superlink
        units = systemd.units(output, federation.roster, port=cfg.port, address=address)
        for name, text in units.items():
            (output / name).write_text(text)
    _explain(federation, cfg, address, deployment, Console(stderr=cfg.quiet, emoji=False))
    return {
        "federation": str(output),
        "deployment": str(deployment),
        "ca_fingerprint": federation.roster.ca_fingerprint,
        "kits": {site: str(kit.with_suffix(".zip")) for site, kit in federation.kits.items()},
        "wheel": {"name": wheel, "sha256": hashlib.sha256(content).hexdigest()},
        "units": [str(output / name) for name in units],
    }


def _check(cfg: _ProvisionArguments) -> None:
    if " " in sys.prefix:
        raise ConfigError(
            f"the environment {sys.prefix} has a space in its path, from which Flower's SuperLink "
            "cannot keep a database; install primia_flwr at a path without spaces"
        )
    if not cfg.sites:
        raise ConfigError("sites=[]; expected the names of the sites, e.g. sites=[munich,paris]")
    check_host("server", cfg.server, example="fl.example.org")
    if (_CONF / "deployment" / f"{cfg.name}.yaml").exists():
        raise ConfigError(
            f"name={cfg.name}; expected a new name, since {_CONF}/deployment/{cfg.name}.yaml exists"
        )


def _plan_of(cfg: _ProvisionArguments) -> Plan:
    return Plan(
        name=cfg.name,
        sites=cfg.sites,
        server=cfg.server,
        port=cfg.port,
        days=cfg.days,
        loopback=cfg.loopback,
        min_sites=cfg.min_sites,
        software=True,
    )


def _explain(
    federation: Federation,
    cfg: _ProvisionArguments,
    address: str,
    deployment: Path,
    console: Console,
) -> None:
    folder, roster = federation.folder, federation.roster

    def show(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False, markup=False)

    show(f"Federation {roster.federation} in {folder} (CA {roster.ca_fingerprint})\n")
    show("1. Give each site its kit over a safe way, and read it its fingerprints by phone:")
    for site in roster.sites:
        show(f"   {federation.kits[site.name].with_suffix('.zip')}  {site.supernode_fingerprint}")
    show("\n2. Start the SuperLink and, beside it, the process that runs ServerApps")
    show(f"   (or install the two .service files in {folder} for systemd):")
    show("   export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1")
    show(f"   {systemd.superlink_line(folder, port=cfg.port)}")
    show(f"   {systemd.superexec_line(folder, address=address)}")
    show("\n3. Register the sites' keys, and see who is there:")
    show(f"   primia federation status name={roster.federation} register=true")
    show(f"\n4. primia train experiment=pneumonia deployment={roster.federation} dry_run=true")
    show(f"   ({deployment} is the entry; keep {folder}/ca.key offline)\n")


COMMAND = Command(
    words=("provision",),
    summary="make certificates, keys, a roster and a start-up kit for each site",
    examples=(
        "primia provision sites=[munich,paris,london] server=fl.example.org",
        "primia provision name=trial sites=[a,b] server=127.0.0.1 port=9491 min_sites=1",
    ),
    config_name="commands/federation/provision",
    schema=_ProvisionArguments,
    run=_run,
)
