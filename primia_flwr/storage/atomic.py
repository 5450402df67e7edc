"""Files and folders that are there whole or not at all, and on the disk when a call returns.

All are written beside their place, flushed, and renamed; the folder's new name is flushed, too.
A process that is killed leaves at most a hidden draft beside the old content.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from primia_flwr.errors import DataError, PrimiaError

PRIVATE = 0o600
"""Mode of a file that only its owner may read and change."""


@contextmanager
def writing(what: object, *, error: type[PrimiaError], remedy: str) -> Iterator[None]:
    """Turn an `OSError` into one sentence of the given type: what, why, what to do about it."""
    try:
        yield
    except OSError as found:
        reason = found.strerror or found
        raise error(f"{what} cannot be written ({reason}); {remedy}") from None


def write_atomic(path: Path, content: bytes | str, *, mode: int | None = None) -> None:
    """Put a file in place of an older one.

    Parameters
    ----------
    path : Path
        In a folder that exists.
    content : bytes or str
        A text is written as UTF-8, with its line ends as they are.
    mode : int, optional
        Permission bits, e.g. `PRIVATE`; None: those of any new file, as the process' umask says.

    Raises
    ------
    OSError
        If it cannot be written; the older one stays.
    """
    write_together({path: content}, mode=mode)


def write_together(contents: Mapping[Path, bytes | str], *, mode: int | None = None) -> None:
    """Write files as `write_atomic` does; none takes its place before all are on the disk."""
    drafts = {path: _draft_of(path) for path in contents}
    try:
        for path, draft in drafts.items():
            _write_new(draft, contents[path], mode)
        for path, draft in drafts.items():
            os.replace(draft, path)
    except BaseException:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
        raise
    for folder in {path.parent for path in contents}:
        fsync_path(folder)


def write_result(path: Path, content: str | Mapping[str, Any]) -> None:
    """Write a result of a run, a text or an object in JSON, for its owner; as `write_atomic` does.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    text = content if isinstance(content, str) else json.dumps(content, indent=1) + "\n"
    with writing(path, error=DataError, remedy="expected a writable folder with free space"):
        write_atomic(path, text, mode=PRIVATE)


def only_for_owner(folder: Path) -> None:
    """Keep everybody but their owner out of a folder, and of all files and folders below it."""
    for place, _, names in os.walk(folder):
        os.chmod(place, 0o700)
        for name in names:
            os.chmod(os.path.join(place, name), PRIVATE, follow_symlinks=True)


@contextmanager
def atomic_folder(target: Path, *, mode: int | None = None) -> Iterator[Path]:
    """Yield a draft that becomes the folder `target` when the block ends without an error.

    Raises
    ------
    FileExistsError
        If a folder that is not empty has come there meanwhile; it stays, the draft is dropped.
    OSError
        If it cannot be written; nothing is left behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_of(target)
    draft.mkdir(mode=0o777 if mode is None else 0o700)
    try:
        yield draft
        if mode is not None:
            draft.chmod(mode)
        _fsync_tree(draft)
        _publish(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder for its owner only, and those above it, on the disk."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        fsync_path(folder.parent)


def rename_durably(source: Path, target: Path) -> None:
    """Give a file or folder another name in the same folder, on the disk."""
    os.replace(source, target)
    fsync_path(target.parent)


def fsync_path(path: Path) -> None:
    """Flush a file's content, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all bytes, however many calls it takes."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _draft_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}")


def _write_new(path: Path, content: bytes | str, mode: int | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666 if mode is None else PRIVATE)
    try:
        if mode is not None:
            os.fchmod(descriptor, mode)
        write_all(descriptor, content.encode() if isinstance(content, str) else content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fsync_tree(folder: Path) -> None:
    for place, _, names in os.walk(folder, topdown=False):
        for name in sorted(names):
            fsync_path(Path(place, name))
        fsync_path(Path(place))


def _publish(draft: Path, target: Path) -> None:
    try:
        rename_durably(draft, target)
    except OSError:
        if target.is_dir():
            raise FileExistsError(f"{target} exists") from None
        raise
