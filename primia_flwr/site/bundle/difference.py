"""What differs between two bundles: so that a hospital reads what is new, and not all again."""

import difflib
from dataclasses import dataclass

from primia_flwr.errors import DataError
from primia_flwr.site.bundle.contents import BundleStore, read_file, read_files
from primia_flwr.site.log import SiteLog
from primia_flwr.site.policy import SitePolicy

_DERIVED = ".info/"  # Flower's list of the other files


@dataclass(frozen=True)
class Difference:
    """Paths of the files that are only in the new bundle, only in the old one, or not the same."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def paths(self) -> list[str]:
        """All of them, sorted."""
        return sorted((*self.added, *self.removed, *self.changed))


def differs(old: bytes, new: bytes) -> Difference:
    """Compare two bundles.

    Raises
    ------
    PolicyRefusal
        If one is no proper bundle.
    """
    before, after = (
        {path: text for path, text in read_files(content).items() if not path.startswith(_DERIVED)}
        for content in (old, new)
    )
    both = before.keys() & after.keys()
    return Difference(
        added=tuple(sorted(after.keys() - both)),
        removed=tuple(sorted(before.keys() - both)),
        changed=tuple(sorted(path for path in both if before[path] != after[path])),
    )


def changed_lines(old: bytes, new: bytes, path: str) -> list[str]:
    """Return a file's changes as `diff -u` shows them, safe to print on a terminal.

    Raises
    ------
    DataError
        If neither bundle has the file.
    """
    texts = [_lines(content, path) for content in (old, new)]
    if texts == [None, None]:
        read_file(new, path)  # says what was expected
    before, after = (text or [] for text in texts)
    return list(difflib.unified_diff(before, after, f"before/{path}", f"now/{path}", lineterm=""))


def approved_before(policy: SitePolicy, digest: str) -> str:
    """Return the bundle that was approved last, other than this one, and still is; or nothing."""
    kept = set(BundleStore(policy.bundle_folder).hashes()) & set(policy.approved_bundles)
    found = ""
    try:
        for entry in SiteLog(policy.log_file).entries():
            named = str(entry.details.get("bundle"))
            if entry.event == "approved" and named in kept - {digest}:
                found = named
    except DataError:  # `primia site log` says so; here it costs the comparison only
        return ""
    return found


def _lines(content: bytes, path: str) -> list[str] | None:
    return read_file(content, path).splitlines() if path in read_files(content) else None
