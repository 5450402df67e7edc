"""`primia site check`: whether this site is ready, and what to do if not."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from primia_flwr.cli.command import Command
from primia_flwr.cli.site.policy import SiteArguments
from primia_flwr.errors import FederationError
from primia_flwr.provisioning.certificates import (
    certificate_fingerprint,
    fingerprint,
    public_line_of,
)
from primia_flwr.provisioning.roster import load_roster
from primia_flwr.site.check import Finding, check_site
from primia_flwr.site.policy import SitePolicy, load_policy
from primia_flwr.site.validity import read_certificate

_KEYS = {"identity_key": "identity_fingerprint", "supernode_key": "supernode_fingerprint"}
"""What the roster has of each of a site's keys."""


def _run(cfg: SiteArguments) -> dict[str, Any]:
    """Check the site, print a table, and return the findings; not ok if one is not."""
    policy = load_policy(Path(cfg.site))
    findings = [*check_site(policy), check_roster(policy)]
    _print_table(policy.site, findings, Console(stderr=cfg.quiet, emoji=False))
    return {
        "site": policy.site,
        "ok": all(finding.ok for finding in findings),
        "findings": [finding.__dict__ for finding in findings],
    }


def check_roster(policy: SitePolicy) -> Finding:
    """Check that the roster has this site's own two keys and CA, and show all fingerprints.

    In secure aggregation a site believes signatures by the keys of this list, so the sites
    compare its fingerprints by phone.
    """
    file = policy.path(policy.roster)
    try:
        roster = load_roster(file)
        ca = certificate_fingerprint(read_certificate(policy.path(policy.root_certificates)))
        own = {key: fingerprint(public_line_of(policy.path(getattr(policy, key)))) for key in _KEYS}
    except FederationError as error:
        return Finding("roster", False, str(error), "unzip the start-up kit again")
    sites = {site.name: site for site in roster.sites}
    for key, attribute in _KEYS.items():
        listed = getattr(sites.get(policy.site), attribute, "nothing")
        if listed != own[key]:
            found = f"{file} has {listed} for {policy.site}; {key} is {own[key]}"
            return Finding("roster", False, found, "ask the coordinator for the kit again")
    if roster.ca_fingerprint != ca:
        return _another_ca(policy, roster.ca_fingerprint, ca)
    keys = [site.identity_fingerprint for site in sites.values()]
    if len(set(keys)) < len(keys):
        found = f"{file} gives two sites the same identity"
        return Finding("roster", False, found, "ask the other sites which identity is theirs")
    shown = ", ".join(f"{name} {site.identity_fingerprint}" for name, site in sites.items())
    return Finding("roster", True, f"identities to compare with the other sites by phone: {shown}")


def _another_ca(policy: SitePolicy, listed: str, own: str) -> Finding:
    """Say that the roster and the certificate are not of one CA: one of the two was changed."""
    ca_file = policy.path(policy.root_certificates)
    found = (
        f"{policy.path(policy.roster)} has the CA {listed}; root_certificates={ca_file} is {own}"
    )
    remedy = (
        "ask the coordinator by phone which is the federation's, and take out the start-up kit "
        "again; a renewed one is taken in with primia site ca"
    )
    return Finding("roster", False, found, remedy)


def _print_table(site: str, findings: list[Finding], console: Console) -> None:
    table = Table(title=f"Site {site}")
    for column in ("check", "ready", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        ready = "[green]yes[/]" if finding.ok else "[red]no[/]"
        table.add_row(finding.name, ready, escape(finding.found), escape(finding.remedy))
    console.print(table)


COMMAND = Command(
    words=("site", "check"),
    summary="is this site ready: data, patients, keys, roster, clock, link, disk, device",
    examples=("primia site check", "primia site check site=kit-munich/site.yaml"),
    config_name="commands/site/check",
    schema=SiteArguments,
    run=_run,
    positional="site",
)
