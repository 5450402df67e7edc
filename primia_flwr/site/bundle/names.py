"""Names that a file of a bundle may have, so that what is reviewed is what runs.

One name is one file, on every file system and for Python's import: ASCII only, no aliases of a
path, nothing that differs only in case, no module beside a package of the same name. Text files
only, by a closed list of endings: no bytecode, no native code, no files that Python runs at its
start. And nothing that would take the place of a module which the site has installed.
"""

import importlib.util
import re
import sys
from collections.abc import Collection, Iterable
from functools import cache

from primia_flwr.errors import PolicyRefusal
from primia_flwr.storage.printable import shown

_MAX_NAME = 200
_MAX_DEPTH = 12
CONTENT_LIST = ".info/CONTENT"
# What `flwr build` takes along: sources and texts. `LICENSE` and its like have no ending.
_ENDINGS = frozenset({"py", "pyi", "toml", "md", "rst", "txt", "yaml", "yml", "json", "jsonl"})
_ENDINGS |= frozenset({"csv", "cfg", "ini"})
_BARE_NAMES = frozenset({"LICENSE", "LICENCE", "NOTICE", "README", "COPYING", "AUTHORS"})
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
_FILE = re.compile(r"(?P<stem>[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99})\.(?P<ending>[a-z]{2,5})")
# Python looks for these by itself, or keeps bytecode there.
_FORBIDDEN = frozenset({"__pycache__", "sitecustomize", "usercustomize"})
# The app's own folders: in a checkout or an editable installation they can be imported, too.
_OWN = frozenset({"primia_flwr", "clients", "strategies", "conf"})


def check_name(name: str) -> None:
    """Refuse one name that no honest bundle has.

    Raises
    ------
    PolicyRefusal
        If it is no plain relative path of a text file.
    """
    if name == CONTENT_LIST:
        return
    *folders, file = name.split("/")
    match = _FILE.fullmatch(file)
    plain = (
        len(name) <= _MAX_NAME
        and len(folders) < _MAX_DEPTH
        and all(_FOLDER.fullmatch(folder) for folder in folders)
        and (file in _BARE_NAMES or match is not None)
    )
    if not plain:
        raise PolicyRefusal(
            f"bundle has the entry {shown(name)}; expected plain files, relative paths of ASCII "
            "letters, digits, '-', '_' and '.'"
        )
    if match and match["ending"] not in _ENDINGS:
        raise PolicyRefusal(
            f"bundle has the entry {shown(name)}; expected text files: "
            f"{', '.join(sorted(_ENDINGS))}"
        )
    stems = {*(folder.casefold() for folder in folders), file.split(".")[0].casefold()}
    if stems & _FORBIDDEN:
        raise PolicyRefusal(
            f"bundle has the entry {shown(name)}; expected no bytecode and nothing that Python "
            "runs at its start"
        )


def check_together(names: Collection[str]) -> None:
    """Refuse names of which two could be one file or one module.

    Raises
    ------
    PolicyRefusal
        If two differ only in case, a file is also a folder, or a module also a package.
    """
    spelled = dict[str, str]()
    folders = {folder for name in names for folder in _folders(name)}
    for path in (*names, *folders):
        first = spelled.setdefault(path.casefold(), path)
        if first != path or (path in folders and path in names):
            raise PolicyRefusal(
                f"bundle has the entries {shown(first)} and {shown(path)}; expected one spelling "
                "of a name, and no file that is also a folder"
            )
    _check_modules(names, folders)


def _check_modules(names: Collection[str], folders: Collection[str]) -> None:
    modules = {name[: name.rindex(".")].casefold(): name for name in names if name.endswith(".py")}
    for folder in folders:
        if folder.casefold() in modules:
            raise PolicyRefusal(
                f"bundle has the module {shown(modules[folder.casefold()])} and the folder "
                f"{shown(folder)}; expected one of them, since Python would run only one"
            )


def check_shadows(names: Iterable[str]) -> None:
    """Refuse a bundle that puts something in the place of a module that is installed here.

    A bundle's folder comes first on `sys.path`: its `torch/` would be PyTorch to all that runs.

    Raises
    ------
    PolicyRefusal
        If a top-level name of the bundle can be imported without it.
    """
    tops = {name.split("/")[0] for name in names if "/" in name or name.endswith(".py")}
    for top in sorted(tops):
        module = top.removesuffix(".py")
        if module not in _OWN and module.isidentifier() and _is_installed(module):
            raise PolicyRefusal(
                f"bundle has {shown(top)} at its top; expected no name of a module that Python or "
                "this site's installation has already"
            )


def _folders(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


@cache
def _is_installed(module: str) -> bool:
    if module in sys.stdlib_module_names:
        return True
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # there, but without a description
        return True
