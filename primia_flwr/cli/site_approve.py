"""`primia site approve <hash>`: this code may run here from now on."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from primia_flwr.cli.verb import Verb
from primia_flwr.errors import ConfigError
from primia_flwr.site.approval import approve
from primia_flwr.site.bundles import BundleStore, inspect
from primia_flwr.site.policy import load_policy


@dataclass
class ApproveArguments:
    """Arguments of `primia site approve`: the start of a hash that arrived, or a whole hash."""

    site: str = "site.yaml"
    bundle: str = ""
    quiet: bool = False


def run(cfg: ApproveArguments) -> dict[str, Any]:
    """Add the bundle to the policy file."""
    if not cfg.bundle:
        raise ConfigError("bundle=''; expected a hash, e.g. primia site approve 3fa91c02")
    policy_file = Path(cfg.site)
    store = BundleStore(load_policy(policy_file).bundle_folder)
    beginning = cfg.bundle.lower()
    unseen = re.fullmatch(r"[0-9a-f]{64}", beginning) and beginning not in store.hashes()
    if unseen:
        digest, note = beginning, "not seen here yet"
    else:
        digest = store.find(beginning)
        bundle = inspect(store.read(digest))
        note = f"{bundle.app_id} {bundle.version}"
    new = approve(policy_file, digest, note=note)
    word = "approved" if new else "was approved already"
    Console(stderr=cfg.quiet, emoji=False).print(f"{digest} ({note}): {word}", soft_wrap=True)
    return {"bundle": digest, "new": new}


VERB = Verb(
    words=("site", "approve"),
    summary="let a bundle run here; removing its line from site.yaml takes it back",
    examples=("primia site approve 3fa91c02",),
    config_name="site_approve",
    schema=ApproveArguments,
    run=run,
    positional="bundle",
)
