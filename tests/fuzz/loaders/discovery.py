"""Find every call that decodes bytes, a text or a file, in the source: no list is kept by hand.

A call counts by its full name after the imports of its module (`np.load` is `numpy.load`,
whatever it was imported as) or, where it is a method, by the method's name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("primia_flwr", "clients", "strategies")

FUNCTIONS = re.compile(
    r"json\.loads?|yaml\.\w*load\w*|tomllib\.loads?|pickle\.\w*load\w*|marshal\.loads?"
    r"|zipfile\.ZipFile|zipfile\.Path|tarfile\.\w+|gzip\.\w+|zlib\.decompress\w*"
    r"|numpy\.(load|loadtxt|genfromtxt|fromfile|frombuffer|fromstring|memmap)"
    r"|numpy\.lib\.format\.\w+"
    r"|torch\.(load|frombuffer|jit\.load)|safetensors\.(\w+\.)*(load\w*|safe_open)"
    r"|(primia_flwr\.storage\.plain_)?csv\.(reader|DictReader)|configparser\.\w+|xml\.[\w.]+"
    r"|struct\.(unpack\w*|iter_unpack)|ast\.(parse|literal_eval)"
    r"|base64\.\w*decode\w*|binascii\.\w+|(bytes|bytearray)\.fromhex|int\.from_bytes"
    r"|cryptography\.[\w.]*\.load_\w+|omegaconf\.OmegaConf\.(create|load)"
    r"|PIL\.Image\.(open|frombytes|frombuffer)|pydicom\.(\w+\.)*dcmread"
    r"|optuna\.storages\.\w+|sqlite3\.connect|open|io\.open|os\.fdopen"
    r"|primia_flwr\.storage\.reading\.(read_\w+|parse_\w+)|primia_flwr\.config\.plain_yaml\.load_\w+"
)
METHODS = re.compile(
    r"read_text|read_bytes|from_public_bytes|from_private_bytes|unpack|unpack_from|iter_unpack"
    r"|fromhex|loads"
)
OPENERS = ("open", "io.open", "os.fdopen", "zipfile.ZipFile")


@dataclass(frozen=True, order=True)
class Site:
    """One decoding call. `line`: of the call; `last`: where it ends; `loader`: what it is in."""

    file: str
    line: int
    last: int
    call: str
    loader: str


def find(root: Path = ROOT) -> list[Site]:
    """Return all decoding calls of the three packages, in the order of their files."""
    paths = (path for package in PACKAGES for path in sorted((root / package).rglob("*.py")))
    return [site for path in paths if "_bundle" not in path.parts for site in _of(path, root)]


def loaders(sites: list[Site]) -> list[str]:
    """Return the names of the functions that hold them, each once."""
    return list(dict.fromkeys(site.loader for site in sites))


def _of(path: Path, root: Path) -> Iterator[Site]:
    file = str(path.relative_to(root))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from _Finder(file, _imports(tree)).find(tree)


def _imports(tree: ast.Module) -> dict[str, str]:
    """Return what each imported name stands for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                names[bound] = alias.name if alias.asname else bound
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return names


class _Finder:
    def __init__(self, file: str, imports: dict[str, str]) -> None:
        self.file, self.imports = file, imports
        self.module = file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")

    def find(self, node: ast.AST, inside: str = "") -> Iterator[Site]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from self.find(child, f"{inside}.{child.name}")
                continue
            if isinstance(child, ast.Call) and (name := self._decoder(child)):
                loader = f"{self.module}{inside}"
                last = child.end_lineno or child.lineno
                yield Site(self.file, child.lineno, last, name, loader)
            yield from self.find(child, inside)

    def _decoder(self, call: ast.Call) -> str:
        """Return the name of what is called, if it decodes; else nothing."""
        name = self._full(call.func)
        if name and FUNCTIONS.fullmatch(name):
            return "" if name in OPENERS and _writes(call, at=1) else name
        if not isinstance(call.func, ast.Attribute):
            return ""
        method = call.func.attr
        if METHODS.fullmatch(method) or (method == "decode" and _is_bytes_decode(call)):
            return f".{method}"
        if method == "open" and name not in ("os.open",) and _is_file_open(call):
            return ".open"
        return ""

    def _full(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return self.imports.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            before = self._full(node.value)
            return f"{before}.{node.attr}" if before else ""
        return ""


def _mode(call: ast.Call, at: int) -> str | None:
    """Return the mode that a file is opened with; None where it is not written as a text."""
    given = [word.value for word in call.keywords if word.arg == "mode"] or call.args[at : at + 1]
    if not given:
        return "r"
    return given[0].value if isinstance(given[0], ast.Constant) else None  # type: ignore[return-value]


def _writes(call: ast.Call, *, at: int) -> bool:
    mode = _mode(call, at)
    return isinstance(mode, str) and mode[:1] in ("w", "a", "x") and "+" not in mode


def _is_file_open(call: ast.Call) -> bool:
    """Say whether `x.open(...)` opens a file for reading: its mode is one, or is left out."""
    mode = _mode(call, 0)
    return isinstance(mode, str) and bool(re.fullmatch("r[bt+]*|[awx][bt]*\\+[bt]*", mode))


def _is_bytes_decode(call: ast.Call) -> bool:
    """Say whether `x.decode(...)` is that of bytes: it names an encoding, or nothing."""
    return all(isinstance(value, ast.Constant) for value in call.args)
