"""Bundles that arrived at the site: looked at, kept and shown, but never executed here.

A bundle (Flower's FAB) is a zip file that the coordinator wrote. Its names and sizes are
checked before anything is read from it, and nothing is unpacked.
"""

import hashlib
import io
import os
import re
import stat
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from primia_flwr.errors import DataError, PolicyRefusal

MAX_BUNDLE_BYTES = 32 * 2**20
MAX_UNPACKED_BYTES = 128 * 2**20
MAX_FILES = 4000
MAX_WAITING = 50
_SAFE_PART = re.compile(r"[A-Za-z0-9_.+ -]{1,100}")


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle: its path and its unpacked size in bytes."""

    path: str
    size: int


@dataclass(frozen=True)
class Bundle:
    """What a bundle says about itself, and the hash that nobody can forge."""

    sha256: str
    publisher: str
    name: str
    version: str
    files: tuple[BundleFile, ...]

    @property
    def app_id(self) -> str:
        """`publisher/name`, as Flower calls it."""
        return f"{self.publisher}/{self.name}"

    @property
    def unpacked_bytes(self) -> int:
        """The size of all files together."""
        return sum(file.size for file in self.files)


def sha256(content: bytes) -> str:
    """Return the SHA-256 of a bundle's content as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def inspect(content: bytes) -> Bundle:
    """Check the structure of a bundle and return what it contains.

    Raises
    ------
    PolicyRefusal
        If it is too large, no zip file, or has names, links or sizes that no honest bundle has.
    """
    if len(content) > MAX_BUNDLE_BYTES:
        raise PolicyRefusal(f"bundle of {len(content)} bytes; expected at most {MAX_BUNDLE_BYTES}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = _safe_files(archive)
            project = tomllib.loads(archive.read("pyproject.toml").decode("utf-8"))
        publisher = project["tool"]["flwr"]["app"]["publisher"]
        name, version = project["project"]["name"], project["project"]["version"]
    except PolicyRefusal:
        raise
    except Exception as error:  # hostile bytes make zip readers fail in many ways
        raise PolicyRefusal(
            f"bundle {sha256(content)[:12]} cannot be read ({type(error).__name__}); expected a "
            "Flower App Bundle made by `flwr build`"
        ) from None
    for key, value in (("publisher", publisher), ("name", name), ("version", version)):
        if not isinstance(value, str) or not _SAFE_PART.fullmatch(value) or ".." in value:
            raise PolicyRefusal(f"bundle's {key}={value!r}; expected letters, digits, '-' or '.'")
    return Bundle(sha256(content), publisher, name, version, files)


def read_file(content: bytes, path: str) -> str:
    """Return one file of a bundle as text that is safe to print on a terminal.

    Raises
    ------
    DataError
        If the bundle has no such file.
    """
    known = {file.path for file in inspect(content).files}
    if path not in known:
        raise DataError(f"file={path!r}; expected a file of the bundle, e.g. pyproject.toml")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        text = archive.read(path).decode("utf-8", errors="backslashreplace")
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\u{ord(c):04x}" for c in text)


class BundleStore:
    """The folder of arrived bundles, one file `<sha256>.fab` each; at most `MAX_WAITING`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, content: bytes) -> bool:
        """Keep a bundle for review; False if there is no room for more unreviewed code."""
        target = self.folder / f"{sha256(content)}.fab"
        if target.is_file():
            return True
        if len(content) > MAX_BUNDLE_BYTES or len(self.hashes()) >= MAX_WAITING:
            return False
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(target, content)
        return True

    def hashes(self) -> list[str]:
        """Return the hashes of the kept bundles, the newest first."""
        files = sorted(self.folder.glob("*.fab"), key=lambda f: f.stat().st_mtime, reverse=True)
        return [file.stem for file in files]

    def find(self, beginning: str) -> str:
        """Return the one hash that starts with `beginning` (at least 8 digits).

        Raises
        ------
        DataError
            If none or several do.
        """
        if not re.fullmatch(r"[0-9a-f]{8,64}", beginning):
            raise DataError(f"bundle={beginning!r}; expected 8 to 64 hex digits, e.g. 3fa91c02")
        matches = [name for name in self.hashes() if name.startswith(beginning)]
        if len(matches) != 1:
            raise DataError(
                f"bundle={beginning!r} fits {len(matches)} of the bundles that arrived here; "
                "expected one; `primia site review` lists them"
            )
        return matches[0]

    def read(self, digest: str) -> bytes:
        """Return the content of a kept bundle and check that it is still the same.

        Raises
        ------
        DataError
            If the file does not have the hash that it is called by.
        """
        content = (self.folder / f"{digest}.fab").read_bytes()
        if sha256(content) != digest:
            raise DataError(f"{self.folder / digest}.fab was changed; delete it and ask again")
        return content


def write_atomically(target: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file so that a reader sees the old or the new content, never half of it."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, mode)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _safe_files(archive: zipfile.ZipFile) -> tuple[BundleFile, ...]:
    members = archive.infolist()
    if len(members) > MAX_FILES:
        raise PolicyRefusal(f"bundle of {len(members)} files; expected at most {MAX_FILES}")
    if sum(member.file_size for member in members) > MAX_UNPACKED_BYTES:
        raise PolicyRefusal(f"bundle unpacks to more than {MAX_UNPACKED_BYTES} bytes; refused")
    for member in members:
        _check_member(member)
    names = [member.filename for member in members]
    if len(set(names)) != len(names):
        raise PolicyRefusal("bundle names a file twice; expected unique names")
    return tuple(BundleFile(m.filename, m.file_size) for m in members if not m.is_dir())


def _check_member(member: zipfile.ZipInfo) -> None:
    name = member.filename
    parts = PurePosixPath(name).parts
    safe = (
        parts
        and not name.startswith("/")
        and all(_SAFE_PART.fullmatch(part) and part.strip(".") for part in parts)
        and not stat.S_ISLNK(member.external_attr >> 16)
        and not member.flag_bits & 0x1
    )
    if not safe:
        raise PolicyRefusal(f"bundle has the entry {name!r}; expected plain files, relative paths")
