"""Files: which ones are images, and folders that appear complete or not at all."""

import hashlib
import os
from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from primia_flwr.errors import DataError
from primia_flwr.storage.atomic import atomic_folder, writing

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".dcm", ".dicom"})
_NOT_SCANNED = frozenset({"__MACOSX", "DICOMDIR", "Thumbs.db"})


def kind_of(head: bytes) -> str:
    """Tell a file's format from its first 132 bytes: jpeg, png, tiff, dicom, or nothing.

    DICOM comes first: its preamble may begin like a TIFF file, for readers of both.
    """
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        return "tiff"
    return ""


def read_head(path: Path) -> bytes:
    """Read the first 132 bytes."""
    with path.open("rb") as file:
        return file.read(132)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, hexadecimal.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); expected a readable image file"
        ) from None


def image_files(folder: Path, *, known: Container[Path] = ()) -> list[Path]:
    """Files below `folder`, sorted, that claim to be images by name or are so by content.

    Hidden files and the by-catch of archives are passed over, and so are those in `known`, unread.
    """
    found = []
    for directory, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if _is_wanted(name))
        found += [Path(directory, name) for name in files if _is_wanted(name)]
    return sorted(path for path in found if path not in known and _claims_to_be_image(path))


def is_dicom(path: Path) -> bool:
    """Whether the file is a DICOM file by content, or by name if it lacks the preamble."""
    try:
        kind = kind_of(read_head(path))
    except OSError:
        return False
    return kind == "dicom" or (not kind and path.suffix.lower() in (".dcm", ".dicom"))


@contextmanager
def cache_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `target` when the block ends without an error.

    Safe for several processes at once: the first to finish wins, the others' work is dropped.

    Raises
    ------
    DataError
        If the disk is full or the place cannot be written.
    """
    remedy = "expected a writable folder with free space; set data.cache_dir to another one"
    with (
        writing(target.parent, error=DataError, remedy=remedy),
        suppress(FileExistsError),
        atomic_folder(target, mode=0o755) as draft,
    ):
        yield draft


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Let one process at a time make `target`; where the system has no locks, let all."""
    with ExitStack() as stack:
        with suppress(OSError):
            target.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(target.with_name(f".{target.name}.lock")))
        yield


def _is_wanted(name: str) -> bool:
    return not name.startswith(".") and name not in _NOT_SCANNED


def _claims_to_be_image(path: Path) -> bool:
    if path.suffix.lower() in _SUFFIXES:
        return True
    try:
        return path.is_file() and bool(kind_of(read_head(path)))
    except OSError:
        return False
