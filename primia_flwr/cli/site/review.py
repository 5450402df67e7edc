"""`primia site review`: the code that asks to run here, file by file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.errors import DataError, PolicyRefusal
from primia_flwr.site.bundle.contents import Bundle, BundleStore, inspect, read_file
from primia_flwr.site.policy import SitePolicy, load_policy
from primia_flwr.storage.printable import printable

_LONGEST_LINE = 2000


@dataclass
class _ReviewArguments:
    """Arguments of `primia site review`: a bundle's hash (or its start), a file of it."""

    site: str = "site.yaml"
    bundle: str = ""
    file: str = ""
    quiet: bool = False


def _run(cfg: _ReviewArguments) -> dict[str, Any]:
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
    """Print a line for each bundle, with the whole hash: it is what gets approved."""
    _print(console, f"Bundles that arrived at site {policy.site}, the newest first")
    result = {}
    for digest in store.hashes():
        approved = digest in policy.approved_bundles
        result[digest] = approved
        word = "approved" if approved else "not approved"
        _print(console, f"{digest}  {word}  {_described(store, digest)}")
    expected = sorted(store.expected() - result.keys())
    for digest in expected:
        _print(console, f"{digest}  expected, has not come")
    return {"site": policy.site, "bundles": result, "expected": expected}


def _described(store: BundleStore, digest: str) -> str:
    try:
        found = inspect(store.read(digest))
    except (PolicyRefusal, DataError) as error:
        return f"cannot run here: {error}"
    return f"{found.app_id} {found.version}, {len(found.files)} files, {found.unpacked_bytes} bytes"


def _show(bundle: Bundle, policy: SitePolicy, console: Console) -> None:
    approved = "approved" if bundle.sha256 in policy.approved_bundles else "not approved"
    _print(console, f"{bundle.app_id} {bundle.version}, {approved}")
    _print(console, f"SHA-256 {bundle.sha256}")
    for file in bundle.files:
        _print(console, f"{file.size:>10}  {file.path}")


def _print(console: Console, line: str) -> None:
    """Print a line as it is: no markup, and nothing that steers the terminal."""
    console.print(
        printable(line, limit=_LONGEST_LINE), markup=False, highlight=False, soft_wrap=True
    )


COMMAND = Command(
    words=("site", "review"),
    summary="show the code that asks to run here: its hash, its files, their text",
    examples=(
        "primia site review",
        "primia site review 3fa91c02",
        "primia site review 3fa91c02 file=clients/client_app.py",
    ),
    config_name="commands/site/review",
    schema=_ReviewArguments,
    run=_run,
    positional="bundle",
)
