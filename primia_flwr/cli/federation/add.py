"""`primia federation add`: start-up kits for more sites, under the same CA."""

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.cli.federation import changes
from primia_flwr.config.checks import check_range


@dataclass
class _AddArguments:
    """Arguments of `primia federation add`; `min_sites`: what the new policies start with."""

    name: str = "fl"
    sites: list[str] = field(default_factory=list)
    min_sites: int = 2
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("min_sites", self.min_sites, 1, 1000, example=3)


def _run(cfg: _AddArguments) -> dict[str, Any]:
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
    schema=_AddArguments,
    run=_run,
)
