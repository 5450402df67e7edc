"""`primia federation reissue`: other keys for a site whose old ones were lost or stolen."""

from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.cli.federation import changes


def _run(cfg: changes.KitArguments) -> dict[str, Any]:
    """Make the kits, exchange the keys at the SuperLink, and say what to do next."""
    folder, section = changes.open_folder(cfg.name)
    kits = folder.reissue(cfg.sites, min_sites=cfg.min_sites, software=True)
    why_not = changes.told_superlink(folder, section)
    console = Console(stderr=cfg.quiet, emoji=False)
    changes.say_kits(folder, kits, console)
    changes.show(console, "   The site takes supernode.key, identity.key and roster.yaml of it;")
    changes.show(console, "   its own site.yaml and state/ stay")
    changes.say_roster(folder, console, step=2)
    changes.say_superlink(why_not, cfg.name, console, step=3)
    return {
        "federation": str(folder.folder),
        "kits": {site: str(kit) for site, kit in kits.items()},
        "superlink": why_not or "up to date",
    }


COMMAND = Command(
    words=("federation", "reissue"),
    summary="make a kit with other keys for a site; its old keys open nothing any more",
    examples=("primia federation reissue sites=[paris]",),
    config_name="commands/federation/reissue",
    schema=changes.KitArguments,
    run=_run,
)
