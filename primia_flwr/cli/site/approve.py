"""`primia site approve <hash>`: this code may run here from now on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.errors import ConfigError
from primia_flwr.site.bundle.approval import approve, approve_file
from primia_flwr.site.bundle.contents import BundleStore, inspect
from primia_flwr.site.bundle.store import check_whole_hash
from primia_flwr.site.policy import load_policy


@dataclass
class _ApproveArguments:
    """Arguments of `primia site approve`: a whole hash, or the bundle itself as a file."""

    site: str = "site.yaml"
    bundle: str = ""
    file: str = ""
    quiet: bool = False


def _run(cfg: _ApproveArguments) -> dict[str, Any]:
    """Add the bundle to the policy file."""
    if bool(cfg.bundle) == bool(cfg.file):
        raise ConfigError(
            "bundle and file: expected one of them, the whole hash (64 hex digits) or the bundle, "
            "e.g. primia site approve file=app.fab"
        )
    policy_file, console = Path(cfg.site), Console(stderr=cfg.quiet, emoji=False)
    if cfg.file:
        before = load_policy(policy_file).approved_bundles
        digest = approve_file(policy_file, Path(cfg.file))
        note, new = "from a file", digest not in before
    else:
        digest = cfg.bundle.lower()
        check_whole_hash(digest)
        note = _describe(policy_file, digest)
        new = approve(policy_file, digest, note=note)
    word = "approved" if new else "was approved already"
    console.print(f"{digest} ({note}): {word}", soft_wrap=True, markup=False, highlight=False)
    return {"bundle": digest, "new": new}


def _describe(policy_file: Path, digest: str) -> str:
    """Return what a bundle says it is, if it has arrived."""
    store = BundleStore(load_policy(policy_file).bundle_folder)
    if digest not in store.hashes():
        return "not seen here yet"
    bundle = inspect(store.read(digest))
    return f"{bundle.app_id} {bundle.version}"


COMMAND = Command(
    words=("site", "approve"),
    summary="let a bundle run here; removing its line from site.yaml takes it back",
    examples=(
        "primia site approve <64 hex digits, as `primia site review` shows them>",
        "primia site approve file=primia-flwr.fab",
    ),
    config_name="commands/site/approve",
    schema=_ApproveArguments,
    run=_run,
    positional="bundle",
)
