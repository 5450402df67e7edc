"""Who is in a version of the data: keyed digests, so that a ledger names no patient.

A line of a version is one name: the digest of the name, then those of the bytes of its image files.
Names that share an image in one version are one unit. Whoever shares a name or an image with
somebody of another version is taken for the same person, and so is whoever that one shares with:
names may change and images may move, but what was spent on either stays with both.

The key stays in the folder of the ledger, readable by the site alone. Without it, the digests
say nothing about a name or an image; with it, one can test whether one is among them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from primia_flwr.errors import DataError
from primia_flwr.privacy.ledger.folder import DATA, KEY, pending, settle_file
from primia_flwr.privacy.mechanisms.connected import Connected
from primia_flwr.storage.atomic import PRIVATE, make_folder, write_atomic, writing

_KEY_BYTES = 32
_NAME, _IMAGE = b"primia privacy unit v1\0", b"primia privacy image v1\0"
_DIGEST_BYTES = 16  # a collision among a million units: 1 in 10^26; it would only overcharge
_LINES = re.compile(rb"(?:[0-9a-f]{32}(?: [0-9a-f]{32})*\n)+")
_SHA256 = re.compile("[0-9a-f]{64}")
_REMEDY = "nothing is released; make room or mend the disk, then try again"

_Row = tuple[str, ...]
"""A name's digest, then those of its images, sorted."""
Person = frozenset[tuple[str, int]]
"""The versions that somebody is in, each with the number of units that are this person there."""


def make_key(folder: Path) -> bytes:
    """Return a new key; it has a pending name until `keep_key`.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    key = secrets.token_bytes(_KEY_BYTES)
    with writing(folder / KEY, error=DataError, remedy=_REMEDY):
        write_atomic(pending(folder / KEY), key, mode=PRIVATE)
    return key


def keep_key(folder: Path) -> None:
    """Give the new key its name, now that the first entry is on the disk.

    Raises
    ------
    DataError
        If it cannot be renamed.
    """
    _settle(folder / KEY)


def read_key(folder: Path) -> bytes:
    """Return the key.

    Raises
    ------
    DataError
        If it is missing or has another length: another key would not know the patients again.
    """
    path = folder / KEY
    try:
        key = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); expected the key of this ledger; without "
            "it a patient is not known again, so nothing is released; put it back from a backup"
        ) from None
    if len(key) != _KEY_BYTES:
        raise DataError(
            f"{path} has {len(key)} bytes; expected {_KEY_BYTES}; put it back from a backup"
        )
    return key


def fingerprint(key: bytes) -> str:
    """Return what the first entry says about the key, to know it again."""
    return hmac.new(key, b"primia privacy ledger v1 key", hashlib.sha256).hexdigest()


def rows(key: bytes, names: Iterable[str], images: Sequence[str] | None = None) -> list[_Row]:
    """Return the sorted rows of a version.

    Parameters
    ----------
    key : bytes
        The ledger's.
    names : iterable of str
        Of every image its patient (or itself); the same name twice is one row.
    images : sequence of str, optional
        The SHA-256 of every image's file, hexadecimal, in the names' order.

    Raises
    ------
    DataError
        If a name is empty, there is none, or an image is no SHA-256.
    """
    names = list(names)
    if not names or "" in names:
        what = "a unit without a name" if names else "no units"
        raise DataError(
            f"the data has {what}; expected one name for each patient (or image), the same one "
            "in every version of the data"
        )
    found: dict[str, set[str]] = {_digest(key, _NAME, name): set() for name in set(names)}
    if images is not None:
        if len(images) != len(names) or not all(map(_SHA256.fullmatch, images)):
            raise DataError(
                f"{len(images)} digests of images for {len(names)} names; expected the SHA-256 of "
                "the file of each image, so that it is known again under another name"
            )
        for name, image in zip(names, images, strict=True):
            found[_digest(key, _NAME, name)].add(_digest(key, _IMAGE, image))
    return sorted((name, *sorted(own)) for name, own in found.items())


def count_units(found: Iterable[_Row]) -> int:
    """Return how many units a version has: names that share an image are one."""
    return len(Connected(found).roots())


def version_of(found: Iterable[_Row]) -> tuple[str, bytes]:
    """Return the name of a version, the SHA-256 of its content, and that content."""
    content = "".join(f"{' '.join(row)}\n" for row in found).encode("ascii")
    return hashlib.sha256(content).hexdigest(), content


def write_version(folder: Path, version: str, content: bytes) -> None:
    """Write down the digests of a version; they have a pending name until `keep_version`.

    Raises
    ------
    DataError
        If they cannot be written.
    """
    path = pending(_file_of(folder, version))
    with writing(path, error=DataError, remedy=_REMEDY):
        make_folder(path.parent)
        write_atomic(path, content, mode=PRIVATE)


def keep_version(folder: Path, version: str) -> None:
    """Give a version its name, now that its entry is on the disk.

    Raises
    ------
    DataError
        If it cannot be renamed.
    """
    _settle(_file_of(folder, version))


def _read_units(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); expected the units of a version that the "
            "ledger names; nothing is released; put the file back from a backup"
        ) from None


def read_version(folder: Path, version: str) -> list[_Row]:
    """Return the rows of a version; those of an old one are names alone.

    Raises
    ------
    DataError
        If they are missing or were changed.
    """
    path = _file_of(folder, version)
    if not path.exists() and pending(path).exists():  # a crash; a reader leaves it as it is
        path = pending(path)
    content = _read_units(path)
    if hashlib.sha256(content).hexdigest() != version or not _LINES.fullmatch(content):
        raise DataError(
            f"{path} was changed; expected content with the SHA-256 that names it; nothing is "
            "released; put the file back from a backup"
        )
    return [tuple(line.split()) for line in content.decode("ascii").splitlines()]


def people(versions: Mapping[str, Sequence[_Row]]) -> Counter[Person]:
    """Group the people of all versions by where they are, and count each group.

    All of a group have been in the same releases, as the same number of units each.
    """
    _, where = _everywhere(versions)
    return Counter(frozenset(counts.items()) for counts in where.values())


def persons(
    key: bytes, versions: Mapping[str, Sequence[_Row]], names: Iterable[str]
) -> dict[str, Person]:
    """Return where the people of some names are; in no version: an empty set."""
    everywhere, where = _everywhere(versions)
    roots = {name: everywhere.root(_digest(key, _NAME, name)) for name in names}
    return {name: frozenset(where[root].items()) for name, root in roots.items()}


def _everywhere(
    versions: Mapping[str, Sequence[_Row]],
) -> tuple[Connected, dict[str, Counter[str]]]:
    """Return who belongs together over all versions, and by root in which versions that one is."""
    everywhere = Connected(row for found in versions.values() for row in found)
    where: dict[str, Counter[str]] = defaultdict(Counter)
    for version, found in versions.items():
        for unit in Connected(found).roots():
            where[everywhere.root(unit)][version] += 1
    return everywhere, where


def _digest(key: bytes, kind: bytes, text: str) -> str:
    keyed = hmac.new(key, kind + text.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return keyed.hexdigest()[: 2 * _DIGEST_BYTES]


def _file_of(folder: Path, version: str) -> Path:
    return folder / DATA / f"{version}.units"


def _settle(path: Path) -> None:
    with writing(path, error=DataError, remedy=_REMEDY):
        settle_file(path)
