"""`primia site review`: the code that asks to run here, file by file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from primia_flwr.cli.verb import Verb
from primia_flwr.errors import PolicyRefusal
from primia_flwr.site.bundles import Bundle, BundleStore, inspect, read_file
from primia_flwr.site.policy import SitePolicy, load_policy


@dataclass
class ReviewArguments:
    """Arguments of `primia site review`: a bundle's hash (or its start), a file of it."""

    site: str = "site.yaml"
    bundle: str = ""
    file: str = ""
    quiet: bool = False


def run(cfg: ReviewArguments) -> dict[str, Any]:
    """List the bundles; with `bundle` its files; with `file` that file's text."""
    policy = load_policy(Path(cfg.site))
    store = BundleStore(policy.bundle_folder)
    console = Console(stderr=cfg.quiet, emoji=False)
    if not cfg.bundle:
        return _list(policy, store, console)
    digest = store.find(cfg.bundle)
    content = store.read(digest)
    if cfg.file:
        console.print(read_file(content, cfg.file), markup=False, highlight=False, soft_wrap=True)
        return {"bundle": digest, "file": cfg.file}
    bundle = inspect(content)
    _show(bundle, policy, console)
    return {
        "bundle": digest,
        "app": bundle.app_id,
        "version": bundle.version,
        "approved": digest in policy.approved_bundles,
        "files": {file.path: file.size for file in bundle.files},
    }


def _list(policy: SitePolicy, store: BundleStore, console: Console) -> dict[str, Any]:
    table = Table(title=f"Bundles that arrived at site {policy.site}")
    for column in ("hash", "app", "version", "files", "bytes", "approved"):
        table.add_column(column)
    result = {}
    for digest in store.hashes():
        approved = digest in policy.approved_bundles
        result[digest] = approved
        try:
            found = inspect(store.read(digest))
        except PolicyRefusal as refusal:
            table.add_row(digest[:12], f"[red]{refusal}[/]", "", "", "", "no")
            continue
        row = (found.app_id, found.version, str(len(found.files)), str(found.unpacked_bytes))
        table.add_row(digest[:12], *row, "yes" if approved else "[yellow]no[/]")
    console.print(table)
    return {"site": policy.site, "bundles": result}


def _show(bundle: Bundle, policy: SitePolicy, console: Console) -> None:
    approved = "approved" if bundle.sha256 in policy.approved_bundles else "not approved"
    title = f"{bundle.app_id} {bundle.version}, {approved}\nSHA-256 {bundle.sha256}"
    table = Table(title=title)
    table.add_column("file", overflow="fold")
    table.add_column("bytes", justify="right")
    for file in bundle.files:
        table.add_row(file.path, str(file.size))
    console.print(table)


VERB = Verb(
    words=("site", "review"),
    summary="show the code that asks to run here: its hash, its files, their text",
    examples=(
        "primia site review",
        "primia site review 3fa91c02",
        "primia site review 3fa91c02 file=clients/client_app.py",
    ),
    config_name="site_review",
    schema=ReviewArguments,
    run=run,
    positional="bundle",
)
