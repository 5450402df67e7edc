"""Which real sites a run will ask, and whether they are there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import FederationError
from primia_flwr.provisioning.nodes import node_states, registered_nodes
from primia_flwr.provisioning.roster import load_roster
from primia_flwr.site.validity import at_coordinator, check_endings


def with_roster(experiment: Experiment) -> Experiment:
    """Return a deployment's experiment with the roster's sites and their SuperLink nodes.

    Raises
    ------
    FederationError
        If the roster has fewer registered sites than the run needs.
    """
    deployment, federation = experiment.deployment, experiment.federation
    roster = load_roster(Path(deployment.roster))
    nodes = registered_nodes(deployment.superlink, Path(deployment.root_certificates), roster)
    if len(nodes) < federation.min_sites:
        raise FederationError(
            f"{len(nodes)} of the roster's sites are registered at {deployment.superlink}; "
            f"expected at least federation.min_sites={federation.min_sites}; register them with "
            f"primia federation status name={deployment.name} register=true"
        )
    return replace(
        experiment,
        deployment=replace(deployment, nodes=nodes),
        federation=replace(federation, sites=roster.names()),
    )


def federation_facts(experiment: Experiment, console: Console) -> dict[str, Any]:
    """Print and return which sites are ready and what will be asked of them.

    Raises
    ------
    FederationError
        If the SuperLink cannot be reached or the roster cannot be read.
    """
    deployment = experiment.deployment
    roster = load_roster(Path(deployment.roster))
    states = node_states(deployment.superlink, Path(deployment.root_certificates), roster)
    table = Table(title=f"{experiment.name} at {deployment.superlink}")
    for column in ("site", "status", "key", "will be asked"):
        table.add_column(column)
    prints = {site.name: site.supernode_fingerprint for site in roster.sites}
    asked = f"statistics, {experiment.federation.rounds} x train, evaluate; "
    asked += f"aggregation: {experiment.aggregation.name}"
    for state in states:
        table.add_row(state.site, state.status, prints[state.site], asked)
    console.print(table)
    warnings = check_endings(
        deployment.superlink, Path(deployment.root_certificates), at_coordinator(deployment.name)
    )
    for warning in warnings:
        console.print(f"warning: {warning}", soft_wrap=True, highlight=False, markup=False)
    online = sum(state.status == "online" for state in states)
    return {
        "sites": {state.site: state.status for state in states},
        "warnings": warnings,
        "min_sites": experiment.federation.min_sites,
        "ok": online >= experiment.federation.min_sites,
    }
