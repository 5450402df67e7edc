"""`primia site check`: whether this site is ready, and what to do if not."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from primia_flwr.cli.site_policy import SiteArguments
from primia_flwr.cli.verb import Verb
from primia_flwr.site.check import Finding, check_site
from primia_flwr.site.policy import load_policy


def run(cfg: SiteArguments) -> dict[str, Any]:
    """Check the site, print a table, and return the findings; not ok if one is not."""
    policy = load_policy(Path(cfg.site))
    findings = check_site(policy)
    _print_table(policy.site, findings, Console(stderr=cfg.quiet))
    return {
        "site": policy.site,
        "ok": all(finding.ok for finding in findings),
        "findings": [finding.__dict__ for finding in findings],
    }


def _print_table(site: str, findings: list[Finding], console: Console) -> None:
    table = Table(title=f"Site {site}")
    for column in ("check", "ready", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        ready = "[green]yes[/]" if finding.ok else "[red]no[/]"
        table.add_row(finding.name, ready, escape(finding.found), escape(finding.remedy))
    console.print(table)


VERB = Verb(
    words=("site", "check"),
    summary="is this site ready: data, patients, keys, clock, certificate, link, disk, device",
    examples=("primia site check", "primia site check site=kit-munich/site.yaml"),
    config_name="site_check",
    schema=SiteArguments,
    run=run,
    positional="site",
)
