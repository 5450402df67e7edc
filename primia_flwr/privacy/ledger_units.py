"""Who is in a version of the data: keyed digests of units, so that a ledger names no patient.

The key stays in the folder of the ledger, readable by the site alone. Without it, the digests
say nothing about a name; with it, one can test whether a name is among them.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from primia_flwr.errors import DataError
from primia_flwr.privacy.ledger_disk import make_folder, replace_file

KEY, DATA = "unit.key", "data"
_KEY_BYTES = 32
_DIGEST_BYTES = 16  # a collision among a million units: 1 in 10^26; it would only overcharge
_LINES = re.compile(rb"(?:[0-9a-f]{32}\n)+")


def make_key(folder: Path) -> bytes:
    """Return the key in a folder; a new one where there is none yet.

    Raises
    ------
    DataError
        If it is there and cannot be used, or cannot be written.
    """
    path = folder / KEY
    if not path.exists():
        try:
            replace_file(path, secrets.token_bytes(_KEY_BYTES))
        except OSError as error:
            raise DataError(f"{path} cannot be written ({error.strerror})") from None
    return read_key(folder)


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


def digests(key: bytes, units: Iterable[str]) -> list[str]:
    """Return the sorted keyed digests of names; the same name twice counts once.

    Raises
    ------
    DataError
        If a name is empty, or there is none.
    """
    names = set(units)
    if not names or "" in names:
        what = "a unit without a name" if names else "no units"
        raise DataError(
            f"the data has {what}; expected one name for each patient (or image), the same one "
            "in every version of the data"
        )
    return sorted(_digest(key, name) for name in names)


def version_of(found: Iterable[str]) -> tuple[str, bytes]:
    """Return the name of a version, the SHA-256 of its content, and that content."""
    content = "".join(f"{digest}\n" for digest in found).encode("ascii")
    return hashlib.sha256(content).hexdigest(), content


def write_version(folder: Path, version: str, content: bytes) -> None:
    """Keep the digests of a version.

    Raises
    ------
    DataError
        If they cannot be written.
    """
    path = folder / DATA / f"{version}.units"
    try:
        make_folder(path.parent)
        replace_file(path, content)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror})") from None


def read_version(folder: Path, version: str) -> list[str]:
    """Return the digests of a version.

    Raises
    ------
    DataError
        If they are missing or were changed.
    """
    path = folder / DATA / f"{version}.units"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); expected the units of a version that the "
            "ledger names; nothing is released; put the file back from a backup"
        ) from None
    if hashlib.sha256(content).hexdigest() != version or not _LINES.fullmatch(content):
        raise DataError(
            f"{path} was changed; expected content with the SHA-256 that names it; nothing is "
            "released; put the file back from a backup"
        )
    return content.decode("ascii").split()


def groups(versions: Mapping[str, Iterable[str]]) -> Counter[frozenset[str]]:
    """Group units by the versions that contain them, and count each group.

    All units of a group have been in the same releases, so they have spent the same.
    """
    bits: dict[str, int] = {}
    names = list(versions)
    for number, name in enumerate(names):
        for unit in versions[name]:
            bits[unit] = bits.get(unit, 0) | 1 << number
    return Counter(
        {
            frozenset(name for number, name in enumerate(names) if mask >> number & 1): count
            for mask, count in Counter(bits.values()).items()
        }
    )


def _digest(key: bytes, name: str) -> str:
    keyed = hmac.new(
        key, b"primia privacy unit v1\0" + name.encode("utf-8", "surrogatepass"), hashlib.sha256
    )
    return keyed.hexdigest()[: 2 * _DIGEST_BYTES]


def exists_without_ledger(folder: Path) -> bool:
    """Say whether a folder holds versions of data, which only a ledger that existed wrote."""
    path = folder / DATA
    return path.is_dir() and any(os.scandir(path))
