"""`primia federation status`: which sites of the roster are registered and online."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from primia_flwr.cli.command import Command
from primia_flwr.config.experiment.deployment import DeploymentConfig
from primia_flwr.config.load import compose_experiment
from primia_flwr.errors import ConfigError
from primia_flwr.provisioning.federation_changes import FederationFolder
from primia_flwr.provisioning.nodes import (
    FINISHED,
    NodeStatus,
    node_states,
    register_sites,
    runs_at,
)
from primia_flwr.provisioning.roster import load_roster
from primia_flwr.site.validity import at_coordinator, check_endings

_COLOURS = {"online": "green", "offline": "yellow", "registered": "blue", "missing": "red"}


@dataclass
class _StatusArguments:
    """Arguments of `primia federation status`."""

    name: str = "fl"
    register: bool = False
    quiet: bool = False


def _run(cfg: _StatusArguments) -> dict[str, Any]:
    """Ask the SuperLink; with `register=true` first tell it which keys it shall take."""
    section = deployment_of(cfg.name)
    roster, ca = load_roster(Path(section.roster)), Path(section.root_certificates)
    if cfg.register:
        revoked = FederationFolder(Path(section.roster).parent).revoked_keys()
        register_sites(section.superlink, ca, roster, revoked=revoked)
    states = node_states(section.superlink, ca, roster)
    console = Console(stderr=cfg.quiet, emoji=False)
    _print_table(states, section.superlink, console)
    runs = runs_at(section.superlink, ca, cfg.name)
    going_on = [number for number, state in runs.items() if not state.startswith(FINISHED)]
    if going_on:
        text = f"going on: run {', '.join(going_on)}; its sites are busy (primia runs list name="
        console.print(f"{text}{cfg.name})", soft_wrap=True, highlight=False, markup=False)
    warnings = check_endings(section.superlink, ca, at_coordinator(cfg.name))
    for warning in warnings:
        console.print(f"warning: {warning}", soft_wrap=True, highlight=False, markup=False)
    online = [state.site for state in states if state.status == "online"]
    return {
        "superlink": section.superlink,
        "sites": {state.site: state.status for state in states},
        "nodes": {state.site: str(state.node_id) for state in states if state.node_id},
        "runs": going_on,
        "warnings": warnings,
        "ok": len(online) == len(states),
    }


def deployment_of(name: str) -> DeploymentConfig:
    """Return a provisioned federation's section of the configuration.

    Raises
    ------
    ConfigError
        If there is none of this name, or it is the simulation.
    """
    file = Path("federations") / "conf" / "deployment" / f"{name}.yaml"
    if not file.is_file():
        raise ConfigError(
            f"name={name:.80} has no {file}; expected the name of a provisioned federation, in the "
            "folder in which `primia provision` ran; change to that folder, or give name=..."
        )
    section = compose_experiment([f"deployment={name}"]).deployment
    if section.kind != "deployment":
        raise ConfigError(
            f"name={name} is a simulation; expected a federation that `primia provision` "
            "made, e.g. name=fl"
        )
    return section


def _print_table(states: list[NodeStatus], superlink: str, console: Console) -> None:
    table = Table(title=f"Sites at {superlink}")
    for column in ("site", "status", "node", "since"):
        table.add_column(column)
    for state in states:
        colour = _COLOURS.get(state.status, "white")
        node = str(state.node_id) if state.node_id else "-"
        table.add_row(state.site, f"[{colour}]{state.status}[/]", node, state.since[:19] or "-")
    console.print(table)


COMMAND = Command(
    words=("federation", "status"),
    summary="which sites of a provisioned federation are registered and online",
    examples=("primia federation status", "primia federation status name=fl register=true"),
    config_name="commands/federation/status",
    schema=_StatusArguments,
    run=_run,
    positional="name",
)
