"""`primia federation revoke`: a site leaves, and its keys open nothing any more."""

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.cli.federation import changes

_SECURE_NEEDS = 3


@dataclass
class _RevokeArguments:
    """Arguments of `primia federation revoke`."""

    name: str = "fl"
    sites: list[str] = field(default_factory=list)
    quiet: bool = False


def _run(cfg: _RevokeArguments) -> dict[str, Any]:
    """Take the sites off the roster and out of the SuperLink, and say what to do next."""
    folder, section = changes.open_folder(cfg.name)
    folder.revoke(cfg.sites)
    why_not = changes.told_superlink(folder, section)
    console, left = Console(stderr=cfg.quiet, emoji=False), folder.roster.names()
    changes.say_roster(folder, console, step=1)
    changes.say_superlink(why_not, cfg.name, console, step=2)
    if len(left) < _SECURE_NEEDS:
        changes.show(console, f"{len(left)} sites are left; secure aggregation needs three")
    return {
        "federation": str(folder.folder),
        "revoked": cfg.sites,
        "sites": left,
        "superlink": why_not or "up to date",
        "ok": not why_not,
    }


COMMAND = Command(
    words=("federation", "revoke"),
    summary="take a site off the roster; the SuperLink takes its key no more",
    examples=("primia federation revoke sites=[rome]",),
    config_name="commands/federation/revoke",
    schema=_RevokeArguments,
    run=_run,
)
