"""Which real sites a run will ask, and whether they are there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.privacy import SUM_MODES
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import FederationError
from primia_flwr.provisioning.nodes import node_states, registered_nodes
from primia_flwr.provisioning.roster import Roster, load_roster
from primia_flwr.site.members import members_digest
from primia_flwr.site.validity import at_coordinator, check_endings


def with_roster(experiment: Experiment) -> Experiment:
    """Return a deployment's experiment with its sites of the roster, and their SuperLink nodes.

    A new run has all sites of the roster, or those that `federation.sites` names. A run that is
    resumed has those of its sites that are still on the roster: see `roster_notes`.

    Raises
    ------
    FederationError
        If a named site is not on the roster, or fewer are registered than the run needs.
    """
    deployment, federation = experiment.deployment, experiment.federation
    roster = load_roster(Path(deployment.roster))
    sites = _members(experiment, roster)
    keys = {site.name: site.identity_key for site in roster.sites}
    found = registered_nodes(deployment.superlink, Path(deployment.root_certificates), roster)
    nodes = {site: node for site, node in found.items() if site in sites}
    if len(nodes) < federation.min_sites:
        left = ", ".join(site for site in federation.sites if site not in sites)
        raise FederationError(
            f"{len(nodes)} of the run's sites are registered at {deployment.superlink}"
            f"{f' ({left} left the roster)' if left and experiment.resume else ''}; "
            f"expected at least federation.min_sites={federation.min_sites}; register them with "
            f"primia federation status name={deployment.name} register=true"
        )
    return replace(
        experiment,
        deployment=replace(deployment, nodes=nodes, members=members_digest(keys)),
        federation=replace(federation, sites=sites),
    )


def roster_notes(before: Experiment, now: Experiment) -> list[str]:
    """Return which certificate ends soon and, of a resumed run, who left or came to the roster.

    Raises
    ------
    FederationError
        If a certificate has ended.
    """
    notes = _warnings(now)
    if not before.resume:
        return notes
    names = load_roster(Path(now.deployment.roster)).names()
    left = [site for site in before.federation.sites if site not in names]
    came = [site for site in names if site not in before.federation.sites]
    if left:
        stay = ", ".join(now.federation.sites)
        notes.append(f"{', '.join(left)} left the roster; the run goes on with {stay}")
    if came:
        notes.append(f"{', '.join(came)} came to the roster since; not in this run, in the next")
    return notes


def _members(experiment: Experiment, roster: Roster) -> list[str]:
    names, asked = roster.names(), experiment.federation.sites
    if experiment.resume:
        members = [name for name in names if name in asked]
        if len(members) < len(asked) and experiment.privacy.mode in SUM_MODES:
            left = ", ".join(site for site in asked if site not in members)
            raise FederationError(
                f"{left} left the roster; expected all sites of the run, because with "
                f"privacy.mode={experiment.privacy.mode} they share its noise; start a new run"
            )
        return members
    if asked == FederationConfig().sites:
        return names
    unknown = [site for site in asked if site not in names]
    if unknown:
        raise FederationError(
            f"federation.sites names {', '.join(unknown)}; expected sites of the roster "
            f"({', '.join(names)}), or leave the key out for all of them"
        )
    return [name for name in names if name in asked]


def federation_facts(experiment: Experiment, console: Console) -> dict[str, Any]:
    """Print and return which sites are ready and what will be asked of them.

    Raises
    ------
    FederationError
        If the SuperLink cannot be reached, the roster cannot be read, or `federation.sites` names
        a site that is not on it.
    """
    deployment = experiment.deployment
    roster = load_roster(Path(deployment.roster))
    members = _members(experiment, roster)
    found = node_states(deployment.superlink, Path(deployment.root_certificates), roster)
    states = [state for state in found if state.site in members]
    table = Table(title=f"{experiment.name} at {deployment.superlink}")
    for column in ("site", "status", "key", "will be asked"):
        table.add_column(column)
    prints = {site.name: site.supernode_fingerprint for site in roster.sites}
    asked = f"statistics, {experiment.federation.rounds} x train, evaluate; "
    asked += f"aggregation: {experiment.aggregation.name}"
    for state in states:
        table.add_row(state.site, state.status, prints[state.site], asked)
    console.print(table)
    warnings = _warnings(experiment)
    for warning in warnings:
        console.print(f"warning: {warning}", soft_wrap=True, highlight=False, markup=False)
    online = sum(state.status == "online" for state in states)
    return {
        "sites": {state.site: state.status for state in states},
        "warnings": warnings,
        "min_sites": experiment.federation.min_sites,
        "ok": online >= experiment.federation.min_sites,
    }


def _warnings(experiment: Experiment) -> list[str]:
    deployment = experiment.deployment
    ca = Path(deployment.root_certificates)
    return check_endings(deployment.superlink, ca, at_coordinator(deployment.name))
