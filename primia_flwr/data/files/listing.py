"""Files: which ones are images, and folders that appear complete or not at all."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from primia_flwr.data.files.decoding.stream import encoding_of, start_of
from primia_flwr.data.files.regular import open_regular
from primia_flwr.errors import DataError
from primia_flwr.storage.atomic import atomic_folder, make_folder, only_for_owner, writing
from primia_flwr.storage.reading import reason_of

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".dcm", ".dicom"})
_Id = tuple[int, int]
_NOT_SCANNED = frozenset({"__macosx", "dicomdir", "thumbs.db"})


def kind_of(head: bytes) -> str:
    """Tell a file's format from its first 132 bytes: jpeg, png, tiff, dicom, or nothing.

    DICOM comes first: its preamble may begin like a TIFF file, for readers of both. A bare DICOM
    data set, without preamble, is told by its first elements.
    """
    if start_of(head):
        return "dicom"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        return "tiff"
    return "dicom" if encoding_of(head) else ""


def read_head(path: Path) -> bytes:
    """Read the first 132 bytes of a regular file; OSError for anything else."""
    with open_regular(path) as file:
        return file.read(132)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, hexadecimal.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({reason_of(error)}); expected a readable image file"
        ) from None


@dataclass
class Listing:
    """The image files below a folder, and what there is beside them.

    `unread` counts files by suffix, `first` names one of each; `hidden` counts images and folders
    whose name begins with a dot; `links` are linked folders that were read, `linked` linked images,
    `loops` links back to a folder above, `special` pipes and other things that are no files,
    `closed` folders that may not be read.
    """

    images: list[Path] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    first: dict[str, Path] = field(default_factory=dict)
    hidden: int = 0
    links: list[Path] = field(default_factory=list)
    linked: list[Path] = field(default_factory=list)
    loops: list[Path] = field(default_factory=list)
    special: list[Path] = field(default_factory=list)
    closed: list[Path] = field(default_factory=list)

    def look_at(self, path: Path) -> None:
        """Sort one file in."""
        if not os.path.lexists(path):
            return
        if (mode := _mode(path)) and not stat.S_ISREG(mode):
            self.special.append(path)
        elif _claims_to_be_image(path):
            self.images.append(path)
            self.linked += [path] if path.is_symlink() else []
        else:
            suffix = _suffix_of(path.name)
            self.unread[suffix] += 1
            self.first.setdefault(suffix, path)


def list_folder(folder: Path, *, known: Container[Path] = ()) -> Listing:
    """Look at everything below a folder; what is in `known` is passed over, unread.

    Linked folders are read once on each way down; a link to a folder that it lies in is not.
    """
    found = Listing()
    _walk(folder, found, known, _above(folder))
    found.images.sort()
    return found


def image_files(folder: Path, *, known: Container[Path] = ()) -> list[Path]:
    """Files below `folder`, sorted, that claim to be images by name or are so by content.

    Hidden files and the by-catch of archives are passed over, and so are those in `known`, unread.
    """
    return list_folder(folder, known=known).images


def _suffix_of(name: str) -> str:
    """Return a file's suffix as people say it, without the dot: png, nii.gz; or nothing."""
    lower = name.lower()
    parts = lower.split(".")
    suffix = "nii.gz" if lower.endswith(".nii.gz") else parts[-1] if len(parts) > 1 else ""
    return suffix if suffix.isascii() and len(suffix) <= 11 and not suffix.isdigit() else ""


def is_hidden(name: str) -> bool:
    """Whether files of this name are passed over: hidden ones, and the by-catch of archives."""
    return name.startswith(".") or name.lower() in _NOT_SCANNED


def leads_back(link: Path) -> bool:
    """Whether a link is one to a folder that it lies in."""
    return link.is_symlink() and _identity(link) in _above(link.parent)


def is_dicom(path: Path) -> bool:
    """Whether the file is a DICOM file by content, or by name if it lacks the preamble."""
    try:
        kind = kind_of(read_head(path))
    except OSError:
        return False
    return kind == "dicom" or (not kind and path.suffix.lower() in (".dcm", ".dicom"))


@contextmanager
def cache_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `target`, for its owner, when the block ends well.

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
        atomic_folder(target, mode=0o700) as draft,
    ):
        yield draft
        only_for_owner(draft)


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Let one process at a time make `target`; where the system has no locks, let all."""
    with ExitStack() as stack:
        with suppress(OSError):
            make_folder(target.parent)
            stack.enter_context(FileLock(target.with_name(f".{target.name}.lock")))
        yield


def _walk(folder: Path, found: Listing, known: Container[Path], above: frozenset[_Id]) -> None:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError:
        if stat.S_ISDIR(_mode(folder)):
            found.closed.append(folder)
        return
    for name in names:
        path = folder / name
        if is_hidden(name):
            found.hidden += name.startswith(".") and _is_hidden_image(path)
        elif not stat.S_ISDIR(_mode(path)):
            if path not in known:
                found.look_at(path)
        elif _identity(path) in above:
            found.loops.append(path)
        elif path.is_symlink():
            found.links.append(path)
            _walk(path, found, known, above | _above(path))
        else:
            _walk(path, found, known, above | {_identity(path)})


def _above(folder: Path) -> frozenset[_Id]:
    """Who a folder and all that it really lies in are."""
    real = folder.resolve()
    return frozenset(_identity(one) for one in (real, *real.parents))


def _identity(path: Path) -> _Id:
    try:
        found = path.stat()
    except OSError:
        return (-1, -1)
    return (found.st_dev, found.st_ino)


def _mode(path: Path) -> int:
    """Return the mode of what stands at the end of any links; 0 if that is not known."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _is_hidden_image(path: Path) -> bool:
    return is_image_name(path.name) or (
        stat.S_ISDIR(_mode(path)) and not path.name.startswith("._")
    )


def is_image_name(name: str) -> bool:
    """Whether a name is an image's, and not of what macOS keeps beside one."""
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith("._")


def holds_images(folder: Path) -> bool:
    """Say whether any file below a folder claims to be an image; links to folders do not count."""
    return any(map(_claims_to_be_image, folder.rglob("*")))


def _claims_to_be_image(path: Path) -> bool:
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        return stat.S_ISREG(_mode(path)) and bool(kind_of(read_head(path)))
    except OSError:
        return False
