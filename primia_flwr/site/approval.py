"""Approve a bundle: one line more in the hospital's policy file, and one in its log."""

import re
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path

from primia_flwr.errors import DataError, PrimiaError
from primia_flwr.site.bundles import BundleStore, inspect, write_atomically
from primia_flwr.site.policy import load_policy, parse_policy
from primia_flwr.site.site_log import SiteLog


def approve(policy_file: Path, digest: str, *, note: str = "") -> bool:
    """Add a hash to `approved_bundles` of the policy file; its comments stay.

    Returns False if it stood there already.

    Raises
    ------
    ConfigError
        If the policy is wrong.
    DataError
        If the list cannot be edited safely; the line to add by hand is named.
    """
    policy = load_policy(policy_file)
    if digest in policy.approved_bundles:
        return False
    text = policy_file.read_text(encoding="utf-8")
    comment = f"  # {datetime.now(UTC):%Y-%m-%d}{' ' + note if note else ''}"
    edited = _insert(text, f"  - {digest}{comment}\n")
    wanted = [digest, *policy.approved_bundles]
    if edited is None or parse_policy(edited, folder=policy.folder).approved_bundles != wanted:
        raise DataError(
            f"{policy_file}: approved_bundles cannot be edited safely; add the line "
            f"'  - {digest}' below 'approved_bundles:' yourself"
        )
    mode = stat.S_IMODE(policy_file.stat().st_mode)
    write_atomically(policy_file, edited.encode(), mode=mode)
    SiteLog(policy.log_file).append("approved", bundle=digest, note=note)
    return True


def approve_file(policy_file: Path, bundle: Path) -> str:
    """Approve a bundle that came as a file, before any message; return its hash.

    Raises
    ------
    PolicyRefusal
        If it is no proper bundle.
    """
    content = bundle.read_bytes()
    described = inspect(content)
    BundleStore(load_policy(policy_file).bundle_folder).add(content)
    approve(policy_file, described.sha256, note=f"{described.app_id} {described.version}")
    return described.sha256


def main() -> None:
    """Approve the bundle file (second argument) in the policy file (first argument)."""
    try:
        print(approve_file(Path(sys.argv[1]), Path(sys.argv[2])))
    except PrimiaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _insert(text: str, line: str) -> str | None:
    empty = re.compile(r"^approved_bundles:[ \t]*(\[\s*\])?[ \t]*(#[^\n]*)?\n", re.MULTILINE)
    match = empty.search(text if text.endswith("\n") else text + "\n")
    if match is None:
        return None
    head = f"approved_bundles:{'  ' + match[2] if match[2] else ''}\n"
    return text[: match.start()] + head + line + text[match.end() :]
