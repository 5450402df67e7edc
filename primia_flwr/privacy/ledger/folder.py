"""What the files around a ledger say about it: each is a witness that an old copy contradicts.

Whatever else lies in the folder was left by an entry: a version of the data by its `data` entry, a
kept output by its charge, and the newest entry by a file in each of the two folders whose name is
its number and hash. A file that no entry left means that entries are missing. What is written
before its entry (the key, a version) has a pending name until the entry is on the disk, so that a
crash is told from a cut. Who can put an old copy of everything back is told from it by nothing in
here: that is what witnesses elsewhere are for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from primia_flwr.errors import DataError
from primia_flwr.privacy.ledger.chain import REMEDY, Entry
from primia_flwr.storage.atomic import PRIVATE, make_folder, rename_durably, write_atomic

DATA, RELEASES = "data", "releases"
KEY, HEAD = "unit.key", "head.json"
_PENDING = ".pending"
_UNITS, _RELEASE, _NEWEST = ".units", ".release", ".newest"
_WITNESS = re.compile(r"([0-9]{1,18})(?:-([0-9a-f]{64}))?")
# What only a ledger leaves in its folder; the last one a run with it.
_TRACES = (KEY, HEAD, DATA, RELEASES, "ledger-heads.json")


def check_unbegun(folder: Path) -> None:
    """Refuse to begin a ledger where one has been.

    Raises
    ------
    DataError
        If something lies there that only a ledger leaves.
    """
    for name in _TRACES:
        path = folder / name
        if path.is_dir() and not any(_visible(path)) and not path.is_symlink():
            continue
        if os.path.lexists(path):
            raise DataError(
                f"the ledger in {folder} is missing or empty, but {name} is there; expected the "
                "ledger that left it; nothing is released; put the newest copy of the whole folder "
                "back, or give patients whom no ledger has ever seen another folder"
            )


def check_whole(folder: Path, entries: Sequence[Entry], *, head_is_there: bool) -> None:
    """Refuse entries that do not account for every file around them.

    Parameters
    ----------
    folder : Path
        Of the ledger.
    entries : sequence of Entry
        All of them, at least one, verified.
    head_is_there : bool
        Whether `head.json` was there when the ledger was opened.

    Raises
    ------
    DataError
        Naming the file that no entry left.
    """
    if not head_is_there and os.path.lexists(folder / KEY):
        raise DataError(f"{folder / HEAD} is missing; {REMEDY}")
    versions = _versions(entries)
    for path in _visible(folder / DATA):
        name = path.name.removesuffix(_PENDING)
        if path.suffix == _NEWEST:
            _check_named(path, entries)
        elif not name.endswith(_UNITS) or (
            path.name == name and name.removesuffix(_UNITS) not in versions
        ):
            raise _left_by_none(path)
    for path in _visible(folder / RELEASES):
        if path.suffix not in (_NEWEST, _RELEASE):
            raise _left_by_none(path)
        entry = _check_named(path, entries)
        if path.suffix == _RELEASE and entry.kind != "charge":
            raise _left_by_none(path)


def settle(folder: Path, entries: Sequence[Entry]) -> None:
    """Give pending files their names where their entry is on the disk, and remove the others."""
    versions = _versions(entries)
    if os.path.lexists(folder / (KEY + _PENDING)):
        settle_file(folder / KEY)
    for path in list(_visible(folder / DATA)):
        if path.name.endswith(_PENDING):
            final = path.with_name(path.name.removesuffix(_PENDING))
            if final.name.removesuffix(_UNITS) in versions:
                settle_file(final)
            else:
                path.unlink(missing_ok=True)


def pending(path: Path) -> Path:
    """Return the name under which a file waits for its entry."""
    return path.with_name(path.name + _PENDING)


def settle_file(path: Path) -> None:
    """Give a pending file its name, durably."""
    rename_durably(pending(path), path)


def leave_witness(folder: Path, seq: int, digest: str) -> None:
    """Leave the newest entry's number and hash in both folders, in place of an older one's.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    for place in (folder / DATA, folder / RELEASES):
        make_folder(place)
        newest = place / f"{seq}-{digest}{_NEWEST}"
        if not newest.exists():
            write_atomic(newest, b"", mode=PRIVATE)
        for path in list(_visible(place)):
            if path.suffix == _NEWEST and path != newest:
                with suppress(OSError):  # an older one is true, too
                    path.unlink(missing_ok=True)


def _check_named(path: Path, entries: Sequence[Entry]) -> Entry:
    """Return the entry that a file's name gives by number and, but for old ones, by hash."""
    named = _WITNESS.fullmatch(path.stem)
    if named is None or not 0 < int(named[1]) <= len(entries):
        raise _left_by_none(path)
    entry = entries[int(named[1]) - 1]
    if named[2] not in (None, entry.hash) or (named[2] is None and path.suffix == _NEWEST):
        raise _left_by_none(path)
    return entry


def _versions(entries: Sequence[Entry]) -> set[str]:
    return {str(entry.body.get("version")) for entry in entries if entry.kind == "data"}


def _visible(folder: Path) -> Iterator[Path]:
    """Yield what lies in a folder but for hidden files; nothing where there is no folder."""
    with suppress(FileNotFoundError):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if not entry.name.startswith("."):
                yield Path(entry.path)


def _left_by_none(path: Path) -> DataError:
    return DataError(
        f"{path} was left by no entry of the ledger; expected every file there to be named by one: "
        f"its end was cut off, an old copy was put back, or it was begun anew; {REMEDY}"
    )
