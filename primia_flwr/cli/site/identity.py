"""`primia site identity`: make this site's own identity, or trust another site's."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.provisioning.own_identities import Adopted, renew, trust
from primia_flwr.provisioning.roster import load_roster
from primia_flwr.site.policy import load_policy


@dataclass
class _IdentityArguments:
    """Arguments of `primia site identity`; `trust`: public files of other sites."""

    site: str = "site.yaml"
    new: bool = False
    trust: list[str] = field(default_factory=list)
    quiet: bool = False


def _run(cfg: _IdentityArguments) -> dict[str, Any]:
    """Change what is asked for, and show all identities."""
    policy = load_policy(Path(cfg.site))
    roster, key = policy.path(policy.roster), policy.path(policy.identity_key)
    console = Console(stderr=cfg.quiet, emoji=False)
    public = ""
    if cfg.new:
        adopted, file = renew(key, roster, policy.site)
        public = str(file)
        show(adopted, console)
        console.print(f"send {file} to all other sites and to the coordinator", soft_wrap=True)
    for name in cfg.trust:
        show(trust(roster, Path(name), own=policy.site), console)
    identities = {s.name: s.identity_fingerprint for s in load_roster(roster).sites}
    console.print("compare by phone, with each site itself:")
    for site, mark in identities.items():
        console.print(f"  {site}  {mark}", soft_wrap=True)
    return {"site": policy.site, "public": public, "identities": identities}


def show(adopted: Adopted, console: Console) -> None:
    """Say which identity came in place of which."""
    console.print(f"{adopted.site}: {adopted.before} is now {adopted.now}", soft_wrap=True)


COMMAND = Command(
    words=("site", "identity"),
    summary=(
        "make this site's own identity in place of the one that came with the kit, or put another "
        "site's into this site's roster; without either, show all"
    ),
    examples=(
        "primia site identity",
        "primia site identity new=true",
        "primia site identity 'trust=[paris.pub,london.pub]'",
    ),
    config_name="commands/site/identity",
    schema=_IdentityArguments,
    run=_run,
    positional="site",
)
