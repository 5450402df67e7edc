"""`primia site ca`: take in the renewed certificate of the federation's CA."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.errors import ConfigError
from primia_flwr.provisioning.renewal import take_in_ca
from primia_flwr.site.policy import load_policy


@dataclass
class _CaArguments:
    """Arguments of `primia site ca`; `new`: what the coordinator sent."""

    site: str = "site.yaml"
    new: str = ""
    quiet: bool = False


def _run(cfg: _CaArguments) -> dict[str, Any]:
    """Check that it is the same CA, and put it in the place of the old one."""
    if not cfg.new:
        raise ConfigError("new=''; expected the file that the coordinator sent, e.g. new=ca.crt")
    policy = load_policy(Path(cfg.site))
    ca_file, roster = policy.path(policy.root_certificates), policy.path(policy.roster)
    until = take_in_ca(Path(cfg.new), ca_file, roster).not_valid_after_utc
    Console(stderr=cfg.quiet, emoji=False).print(
        f"{ca_file} is valid to {until:%Y-%m-%d}; it is the CA that this site trusts already, so "
        "no fingerprint has to be compared. Start the site again.",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    return {"site": policy.site, "until": until.isoformat()}


COMMAND = Command(
    words=("site", "ca"),
    summary="take in the renewed certificate of the federation's CA, if it is the same CA",
    examples=("primia site ca ../ca.crt", "primia site ca new=ca.crt site=kit-munich/site.yaml"),
    config_name="commands/site/ca",
    schema=_CaArguments,
    run=_run,
    positional="new",
)
