"""Where an admitted bundle is unpacked, and that what lies there is what was admitted.

Flower calls an unpacked bundle by the first eight digits of its hash and reuses the folder if
it exists. Here every admitted bundle has a Flower home of its own, called by the full hash, and
a folder that differs from the bundle (a write that was cut short, a file that somebody
changed) is removed, so that Flower unpacks it again.
"""

import hashlib
import io
import os
import shutil
import sys
import zipfile
from pathlib import Path

from primia_flwr.site.bundles import Bundle

_PACKAGE = "primia_flwr"


def prepare(folder: Path, bundle: Bundle, content: bytes) -> Path:
    """Point Flower at the home of an admitted bundle and return that home."""
    home = folder / "unpacked" / bundle.sha256
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    for app in (home / "apps").glob("*"):
        if not is_intact(app, content):
            shutil.rmtree(app)
    os.environ["FLWR_HOME"] = str(home)
    return home


def is_intact(app: Path, content: bytes) -> bool:
    """Say whether a folder holds the files of a bundle and no other source files."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        wanted = {
            member.filename: hashlib.sha256(archive.read(member)).digest()
            for member in archive.infolist()
            if not member.is_dir() and not member.filename.startswith(".info/")
        }
    found = {
        file.relative_to(app).as_posix(): file
        for file in app.rglob("*")
        if file.is_file() and file.parent.name != "__pycache__"
    }
    return found.keys() == wanted.keys() and all(
        hashlib.sha256(file.read_bytes()).digest() == wanted[name] for name, file in found.items()
    )


def forget_own_modules() -> None:
    """Drop the gate's own modules from `sys.modules`.

    The bundle carries its own copy of this package, which must not be mixed with the
    hospital's. The gate keeps working: its functions hold on to what they need.
    """
    for name in [n for n in sys.modules if n == _PACKAGE or n.startswith(f"{_PACKAGE}.")]:
        del sys.modules[name]
