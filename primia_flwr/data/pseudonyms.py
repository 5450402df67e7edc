"""Pseudonyms that a site's own key makes: the same in every run, and nothing to whoever lacks it.

The key lies in the site's private folder, beside the folder of the cache, for its owner only. It is
made once and never shown. Names that a person would take for one have one pseudonym.
"""

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.names import is_own, is_placeholder, key_of
from primia_flwr.errors import DataError
from primia_flwr.storage.atomic import PRIVATE, make_folder, write_atomic, writing
from primia_flwr.storage.reading import read_private

KEY_FILE = "pseudonyms.key"
_FOLDER = "private"
_KEY_BYTES = 32
_LETTERS = 16  # of 5 bits each: two of a million patients share one with a chance of 1 in 10^12
_EXPECTED = (
    f"the key of this site's pseudonyms, {_KEY_BYTES} bytes; put it back from a backup: with "
    "another one no patient is known again"
)


@dataclass(frozen=True)
class Pseudonyms:
    """Names to pseudonyms, by HMAC-SHA256 under a key."""

    key: bytes = field(repr=False)

    def patient(self, name: str) -> str:
        """Return a patient's pseudonym, p and 16 letters or digits; nothing for a placeholder.

        A patient who is only known by an image is named by it.
        """
        if is_own(name):
            return self.of("image", name)
        return "" if is_placeholder(name) else self.of("patient", key_of(name))

    def of(self, kind: str, text: str) -> str:
        """Return the pseudonym of a text of some kind: its first letter and 16 more."""
        letters = base64.b32encode(self.digest(kind, text)).decode("ascii").lower()
        return f"{kind[0]}{letters[:_LETTERS]}"

    def digest(self, kind: str, text: str) -> bytes:
        """Return the keyed digest of a text of some kind, 32 bytes."""
        content = f"primia pseudonym v1\0{kind}\0{text}".encode("utf-8", "surrogatepass")
        return hmac.digest(self.key, content, hashlib.sha256)


def private_folder(cache_dir: str) -> Path:
    """Return the folder that holds what must not leave a site: `private` beside the cache."""
    return Path(cache_dir).expanduser().resolve().parent / _FOLDER


def told_patients(
    names: Sequence[str], *, synthetic: bool, private: Path | None = None
) -> tuple[str, ...]:
    """Return what may be written of patients: their pseudonyms; names of drawn ones as they are.

    `names`: of patients, one an image. `synthetic`: whether the images were drawn by formula and
    show nobody. `private`: the folder of the key; None: that of the default cache.

    Raises
    ------
    DataError
        As `open_pseudonyms`.
    """
    if synthetic:
        return tuple(names)
    pseudonyms = open_pseudonyms(private or private_folder(DataConfig().cache_dir))
    known = {name: pseudonyms.patient(name) for name in set(names)}
    return tuple(known[name] for name in names)


def open_pseudonyms(folder: Path) -> Pseudonyms:
    """Return the pseudonyms of the key in a folder; the first call makes both.

    Raises
    ------
    DataError
        If the key cannot be made or read, others can read it, or it has another length.
    """
    path = folder / KEY_FILE
    if not path.exists():
        _make_key(path)
    key = read_private(path, error=DataError, expected=_EXPECTED)
    if len(key) != _KEY_BYTES:
        raise DataError(f"{path} has {len(key)} bytes; expected {_EXPECTED}")
    return Pseudonyms(key)


def _make_key(path: Path) -> None:
    """Make a key, unless another process has made one meanwhile."""
    remedy = "expected a writable folder; set data.cache_dir to a folder in one"
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    with writing(path, error=DataError, remedy=remedy):
        make_folder(path.parent)
        write_atomic(draft, secrets.token_bytes(_KEY_BYTES), mode=PRIVATE)
        try:
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        finally:
            draft.unlink()
