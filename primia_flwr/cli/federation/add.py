"""`primia federation add`: start-up kits for more sites, under the same CA."""

from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.cli.federation import changes


def _run(cfg: changes.KitArguments) -> dict[str, Any]:
    """Make the kits, register their keys, and say what to do next."""
    folder, section = changes.open_folder(cfg.name)
    kits = folder.add(cfg.sites, min_sites=cfg.min_sites, software=True)
    why_not = changes.told_superlink(folder, section)
    console = Console(stderr=cfg.quiet, emoji=False)
    changes.say_kits(folder, kits, console)
    changes.say_roster(folder, console, step=2)
    changes.say_superlink(why_not, cfg.name, console, step=3)
    return {
        "federation": str(folder.folder),
        "kits": {site: str(kit) for site, kit in kits.items()},
        "sites": folder.roster.names(),
        "superlink": why_not or "up to date",
    }


COMMAND = Command(
    words=("federation", "add"),
    summary="make start-up kits for more sites; the others keep their keys",
    examples=(
        "primia federation add sites=[rome]",
        "primia federation add name=fl sites=[rome,oslo] min_sites=3",
    ),
    config_name="commands/federation/add",
    schema=changes.KitArguments,
    run=_run,
)
