"""`primia site roster`: look at a changed roster, and take it in after a phone call."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.errors import ConfigError
from primia_flwr.provisioning.roster import load_roster
from primia_flwr.provisioning.roster_changes import RosterChange, compare, take_in
from primia_flwr.site.policy import load_policy


@dataclass
class _RosterArguments:
    """Arguments of `primia site roster`.

    `new`: what the coordinator sent; `compared`: fingerprints of all identities that come, as
    their hospitals read them over the phone; `left`: names of the sites that go.
    """

    site: str = "site.yaml"
    new: str = ""
    compared: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    quiet: bool = False

    def __post_init__(self) -> None:
        if (self.compared or self.left) and not self.new:
            raise ConfigError(
                "compared and left are of a roster that came; expected its file, e.g. "
                "new=roster.yaml"
            )


def _run(cfg: _RosterArguments) -> dict[str, Any]:
    """Show the own roster, or what another one changes; take it in if all was compared."""
    policy = load_policy(Path(cfg.site))
    file = policy.path(policy.roster)
    console, taken = Console(stderr=cfg.quiet, emoji=False), False
    change = RosterChange(load_roster(file), {}, ())
    if cfg.new:
        change = compare(Path(cfg.new), file, own=policy.site)
        taken = bool(cfg.compared or cfg.left) or not change.anything
        if taken:
            take_in(change, file, compared=cfg.compared, left=cfg.left)
    for line in _lines(change, cfg, taken=taken):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    return {
        "site": policy.site,
        "sites": {site.name: site.identity_fingerprint for site in change.roster.sites},
        "came": change.came,
        "left": list(change.left),
        "taken_in": taken,
    }


def _lines(change: RosterChange, cfg: _RosterArguments, *, taken: bool) -> list[str]:
    lines = []
    for site in change.roster.sites:
        word = "new here, or another identity" if site.name in change.came else ""
        lines.append(f"  {site.name}  {site.identity_fingerprint}  {word}".rstrip())
    lines += [f"  {name}  is not on it any more" for name in change.left]
    if taken:
        return [*lines, "taken in; it counts from the next message on"]
    if change.anything:
        words = [f"'compared=[{','.join(change.came.values())}]'"] if change.came else []
        words += [f"'left=[{','.join(change.left)}]'"] if change.left else []
        lines.append("Nothing is changed yet. Call each of these hospitals; then take it in:")
        lines.append(f"primia site roster new={cfg.new} {' '.join(words)}")
    return lines


COMMAND = Command(
    words=("site", "roster"),
    summary="show who takes part; look at a changed roster, and take it in after a phone call",
    examples=(
        "primia site roster",
        "primia site roster new=roster.yaml",
        "primia site roster new=roster.yaml 'compared=[SHA256:...]' 'left=[rome]'",
    ),
    config_name="commands/site/roster",
    schema=_RosterArguments,
    run=_run,
    positional="new",
)
