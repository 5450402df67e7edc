"""Where an admitted bundle is unpacked, and that what lies there is what was admitted.

Flower calls an unpacked bundle by the first eight digits of its hash and reuses the folder if
it exists. Here every admitted bundle has a Flower home of its own, called by the full hash. A
folder that differs from the bundle in anything (a write that was cut short, a file that somebody
changed, bytecode of an earlier run, a link) is removed, so that Flower unpacks it again, and is
looked at once more before its code is loaded.
"""

import os
import shutil
import stat
import sys
from functools import lru_cache
from pathlib import Path

from primia_flwr.errors import PolicyRefusal
from primia_flwr.site.bundle.contents import Bundle, read_files

_INFO = ".info/"  # Flower removes it when it installs


def prepare(folder: Path, bundle: Bundle, content: bytes) -> Path:
    """Point Flower at the home of an admitted bundle and return that home."""
    home = folder / "unpacked" / bundle.sha256
    for part in (home.parent, home, home / "apps"):
        if part.is_symlink() or (part.exists() and not part.is_dir()):
            part.unlink()
        part.mkdir(parents=True, exist_ok=True, mode=0o700)
    for app in (home / "apps").iterdir():
        if not is_intact(app, content):
            _remove(app)
    os.environ["FLWR_HOME"] = str(home)
    return home


def unpacked(home: Path) -> Path | None:
    """Return the one folder that `prepare` has found intact and left; None where there is none."""
    apps = list((home / "apps").iterdir())
    return apps[0] if len(apps) == 1 else None


def check_unpacked(home: Path, content: bytes) -> None:
    """Refuse to load from a home that holds anything but the admitted bundle.

    Raises
    ------
    PolicyRefusal
        If there is not exactly one unpacked bundle, or it is not intact.
    """
    apps = list((home / "apps").iterdir())
    if len(apps) != 1 or not is_intact(apps[0], content):
        raise PolicyRefusal("what was unpacked is not the bundle that was admitted; refused")


def is_intact(app: Path, content: bytes) -> bool:
    """Say whether a folder holds the files of a bundle and nothing else, not even an empty folder.

    Links are not followed; there are none in an honest folder.
    """
    wanted = unpacked_files(content)
    folders = {parent.as_posix() for name in wanted for parent in Path(name).parents} - {"."}
    if app.is_symlink() or not app.is_dir():
        return False
    found = {path.relative_to(app).as_posix(): path for path in app.rglob("*")}
    kinds = {name: stat.S_IFMT(path.lstat().st_mode) for name, path in found.items()}
    expected = dict.fromkeys(wanted, stat.S_IFREG) | dict.fromkeys(folders, stat.S_IFDIR)
    return kinds == expected and all(found[n].read_bytes() == raw for n, raw in wanted.items())


@lru_cache(maxsize=1)  # one message's process looks at one bundle, three times
def unpacked_files(content: bytes) -> dict[str, bytes]:
    """Return the files of a bundle that Flower unpacks, by their names."""
    return {n: raw for n, raw in read_files(content).items() if not n.startswith(_INFO)}


def without_bytecode() -> None:
    """Keep Python, here and in processes started from here, from writing bytecode.

    Bytecode in the unpacked folder would run in place of the source beside it.
    """
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
