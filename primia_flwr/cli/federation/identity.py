"""`primia federation identity`: put identities that sites made themselves into the roster."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.cli.federation.status import deployment_of
from primia_flwr.cli.site.identity import show
from primia_flwr.provisioning.own_identities import trust
from primia_flwr.provisioning.roster import load_roster


@dataclass
class _FederationIdentityArguments:
    """Arguments of `primia federation identity`; `trust`: public files of sites."""

    name: str = "fl"
    trust: list[str] = field(default_factory=list)
    quiet: bool = False


def _run(cfg: _FederationIdentityArguments) -> dict[str, Any]:
    """Change the coordinator's copy of the roster and show all identities."""
    roster = Path(deployment_of(cfg.name).roster)
    console = Console(stderr=cfg.quiet, emoji=False)
    for file in cfg.trust:
        show(trust(roster, Path(file)), console)
    identities = {site.name: site.identity_fingerprint for site in load_roster(roster).sites}
    for site, mark in identities.items():
        console.print(f"  {site}  {mark}", soft_wrap=True)
    return {"federation": cfg.name, "identities": identities}


COMMAND = Command(
    words=("federation", "identity"),
    summary="put identities that sites made themselves into the coordinator's roster, or show all",
    examples=(
        "primia federation identity",
        "primia federation identity name=fl 'trust=[munich.pub,paris.pub,london.pub]'",
    ),
    config_name="commands/federation/identity",
    schema=_FederationIdentityArguments,
    run=_run,
    positional="name",
)
