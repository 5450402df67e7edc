"""Approve a bundle: one line more in the hospital's policy file, and one in its log."""

import re
import stat
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from primia_flwr.errors import ConfigError, DataError, PrimiaError
from primia_flwr.site.bundle.contents import MAX_BUNDLE_BYTES, BundleStore, inspect
from primia_flwr.site.bundle.store import check_whole_hash, locked
from primia_flwr.site.log import SiteLog
from primia_flwr.site.policy import SitePolicy, load_policy, parse_policy
from primia_flwr.storage.atomic import write_atomic
from primia_flwr.storage.printable import printable
from primia_flwr.storage.reading import read_bytes, reading


def approve(policy_file: Path, digest: str, *, note: str = "") -> bool:
    """Add a whole hash to `approved_bundles` of the policy file; its comments stay.

    Returns False if it stood there already. Two that approve at once both succeed.

    Raises
    ------
    ConfigError
        If the policy is wrong.
    DataError
        If it is no whole hash, the file is a link, or its list cannot be edited safely; the line to
        add by hand is named.
    """
    check_whole_hash(digest)
    note = printable(note, limit=100)
    _check_no_link(policy_file)
    policy = load_policy(policy_file)
    with locked(policy.folder):
        new = _add_line(policy_file, digest, note)
    if new:
        SiteLog(policy.log_file).append("approved", bundle=digest, note=note)
    return new


def approve_file(policy_file: Path, bundle: Path) -> str:
    """Approve a bundle that came as a file, before any message; return its hash.

    Raises
    ------
    PolicyRefusal
        If it is no proper bundle.
    DataError
        If the file cannot be read.
    """
    expected = "a Flower App Bundle, a file *.fab"
    with reading(bundle, error=DataError, expected=expected):
        content = read_bytes(bundle, at_most=MAX_BUNDLE_BYTES)
    described = inspect(content)
    policy = load_policy(policy_file)
    approve(policy_file, described.sha256, note=f"{described.app_id} {described.version}")
    BundleStore(policy.bundle_folder).add(content, approved=[described.sha256])
    return described.sha256


def main() -> None:
    """Approve the bundle file (second argument) in the policy file (first argument)."""
    try:
        print(approve_file(Path(sys.argv[1]), Path(sys.argv[2])))
    except PrimiaError as error:
        print(f"error: {printable(str(error), limit=2000)}", file=sys.stderr)
        sys.exit(2)


def _add_line(policy_file: Path, digest: str, note: str) -> bool:
    """Add the line for a hash to the policy as it is now."""
    policy = load_policy(policy_file)
    if digest in policy.approved_bundles:
        return False
    text = policy_file.read_text(encoding="utf-8")
    comment = f"  # {datetime.now(UTC):%Y-%m-%d}{' ' + note if note else ''}"
    line = f'  - "{digest}"'  # quoted: digits alone would be a number
    edited = _insert(text, f"{line}{comment}\n")
    wanted = [digest, *policy.approved_bundles]
    if edited is None or not _reads_as(edited, policy, wanted):
        raise DataError(
            f"{policy_file}: approved_bundles cannot be edited safely; add the line "
            f"'{line}' below 'approved_bundles:' yourself"
        )
    mode = stat.S_IMODE(policy_file.stat().st_mode)
    write_atomic(policy_file, edited, mode=mode)
    return True


def _reads_as(edited: str, policy: SitePolicy, wanted: list[str]) -> bool:
    """Say whether an edited policy differs in its approved bundles only."""
    try:
        found = parse_policy(edited, folder=policy.folder)
    except ConfigError:
        return False
    return found == replace(policy, approved_bundles=wanted)


def _check_no_link(policy_file: Path) -> None:
    if policy_file.is_symlink():
        raise DataError(
            f"site={policy_file} is a link; expected the policy file itself, which is replaced as "
            f"a whole; name it: site={policy_file.resolve()}"
        )


def _insert(text: str, line: str) -> str | None:
    empty = re.compile(r"^approved_bundles:[ \t]*(\[\s*\])?[ \t]*(#[^\n]*)?\n", re.MULTILINE)
    match = empty.search(text if text.endswith("\n") else text + "\n")
    if match is None:
        return None
    head = f"approved_bundles:{'  ' + match[2] if match[2] else ''}\n"
    return text[: match.start()] + head + line + text[match.end() :]
