"""`primia site review`: the code that asks to run here, file by file."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.errors import DataError, FederationError, PolicyRefusal
from primia_flwr.flower.bundle import stage_bundle
from primia_flwr.site.bundle.contents import Bundle, BundleStore, inspect, read_file
from primia_flwr.site.bundle.difference import Difference, approved_before, changed_lines, differs
from primia_flwr.site.policy import SitePolicy, load_policy
from primia_flwr.storage.printable import printable

_LONGEST_LINE = 2000


@dataclass
class _ReviewArguments:
    """Arguments of `primia site review`: a bundle's hash (or its start), a file of it.

    `diff`: show the changed lines, since the bundle that was approved last; of one file or all.
    """

    site: str = "site.yaml"
    bundle: str = ""
    file: str = ""
    diff: bool = False
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
    before = approved_before(policy, digest)
    if cfg.diff:
        return _show_diff(store, before, digest, cfg, console)
    if cfg.file:
        console.print(read_file(content, cfg.file), markup=False, highlight=False, soft_wrap=True)
        return {"bundle": digest, "file": cfg.file}
    bundle = inspect(content)
    found = differs(store.read(before), content) if before else None
    same = digest == _installed()
    _show(bundle, policy, found, console)
    _print(console, _compared(before, found, same=same))
    return {
        "bundle": digest,
        "app": bundle.app_id,
        "version": bundle.version,
        "approved": digest in policy.approved_bundles,
        "as_installed": same,
        "approved_before": before,
        "differs": {} if found is None else {k: list(v) for k, v in vars(found).items()},
        "files": {file.path: file.size for file in bundle.files},
    }


def _list(policy: SitePolicy, store: BundleStore, console: Console) -> dict[str, Any]:
    """Print a line for each bundle, with the whole hash: it is what gets approved."""
    _print(console, f"Bundles that arrived at site {policy.site}, the newest first")
    result, installed = {}, _installed()
    for digest in store.hashes():
        approved = digest in policy.approved_bundles
        result[digest] = approved
        word = "approved" if approved else "not approved"
        word += ", the same as what is installed here" if digest == installed else ""
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


def _installed() -> str:
    """Return the hash of the bundle that this installation itself makes; nothing if it cannot."""
    with TemporaryDirectory(prefix="primia-review-") as folder:
        try:
            return stage_bundle(Path(folder)).sha256
        except FederationError:
            return ""


def _show_diff(
    store: BundleStore, before: str, digest: str, cfg: _ReviewArguments, console: Console
) -> dict[str, Any]:
    if not before:
        raise DataError(
            f"diff=true: no other bundle that is approved here is kept at site {cfg.site}; "
            "expected one to compare with; read the files instead, with file=<path>"
        )
    old, new = store.read(before), store.read(digest)
    paths = [cfg.file] if cfg.file else differs(old, new).paths
    for path in paths:
        for line in changed_lines(old, new, path):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return {"bundle": digest, "approved_before": before, "differs": paths}


def _compared(before: str, found: Difference | None, *, same: bool) -> str:
    """Return what the bundle is, beside what is installed and what was approved before."""
    if same:
        return "It is the same as what is installed here."
    if found is None:
        return "Nothing was approved here before that is still kept: all of it is new."
    return (
        f"Since {before[:12]}, approved last: {len(found.changed)} files changed (~), "
        f"{len(found.added)} are new (+), {len(found.removed)} are gone (-); diff=true shows the "
        "lines. It is not what is installed here."
    )


def _show(bundle: Bundle, policy: SitePolicy, found: Difference | None, console: Console) -> None:
    approved = "approved" if bundle.sha256 in policy.approved_bundles else "not approved"
    _print(console, f"{bundle.app_id} {bundle.version}, {approved}")
    _print(console, f"SHA-256 {bundle.sha256}")
    marks = dict.fromkeys(found.changed, "~") | dict.fromkeys(found.added, "+") if found else {}
    for file in bundle.files:
        _print(console, f"{file.size:>10} {marks.get(file.path, ' ')} {file.path}")
    for path in found.removed if found else ():
        _print(console, f"{'':>10} - {path}")


def _print(console: Console, line: str) -> None:
    """Print a line as it is: no markup, and nothing that steers the terminal."""
    console.print(
        printable(line, limit=_LONGEST_LINE), markup=False, highlight=False, soft_wrap=True
    )


COMMAND = Command(
    words=("site", "review"),
    summary="show the code that asks to run here: its files, and what is new in it",
    examples=(
        "primia site review",
        "primia site review 3fa91c02",
        "primia site review 3fa91c02 file=clients/client_app.py",
        "primia site review 3fa91c02 diff=true",
    ),
    config_name="commands/site/review",
    schema=_ReviewArguments,
    run=_run,
    positional="bundle",
)
