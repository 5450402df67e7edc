"""`primia site policy`: what this site allows, as its policy file is understood."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from primia_flwr.cli.command import Command
from primia_flwr.site.policy import load_policy


@dataclass
class SiteArguments:
    """Arguments of the `primia site` commands: the site's policy file."""

    site: str = "site.yaml"
    quiet: bool = False


def _run(cfg: SiteArguments) -> dict[str, Any]:
    """Read the policy, print it as a table, and return it."""
    policy = load_policy(Path(cfg.site))
    content = {key: value for key, value in vars(policy).items() if key != "folder"}
    table = Table(title=f"Policy of site {policy.site} ({cfg.site})")
    table.add_column("key")
    table.add_column("value", overflow="fold")
    for key, value in content.items():
        shown = "\n".join(value) or "(none)" if isinstance(value, list) else str(value)
        table.add_row(key, escape(shown))
    Console(stderr=cfg.quiet, emoji=False).print(table)
    return content


COMMAND = Command(
    words=("site", "policy"),
    summary="show what this site allows; edit site.yaml to change it",
    examples=("primia site policy", "primia site policy site=kit-munich/site.yaml"),
    config_name="commands/site/policy",
    schema=SiteArguments,
    run=_run,
    positional="site",
)
