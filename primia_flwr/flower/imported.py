"""Which modules a program imports of given packages, found in the source: nothing is run."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

_HOLDS_STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)  # no expression holds an import


def imported(packages: Mapping[str, Path], starts: set[str]) -> set[Path]:
    """Return the files that modules of some packages need, themselves and their packages included.

    Every `import` in a file counts, wherever it stands, but for those that only a type checker
    follows; imports of other packages do not.

    Parameters
    ----------
    packages : mapping of name to Path
        Top-level packages and their folders.
    starts : set of str
        Modules that are needed, and packages whose every module is.
    """
    files = {
        module: path
        for name, folder in packages.items()
        for path in folder.rglob("*.py")
        for module in [_module(name, path.relative_to(folder))]
    }
    inside = tuple(f"{start}." for start in starts)
    waiting = [module for module in files if f"{module}.".startswith(inside)]
    found: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in files and module not in found:
            found.add(module)
            waiting += [module.rpartition(".")[0], *_names(files[module])]
    return {files[module] for module in found}


def _module(package: str, inside: Path) -> str:
    parts = (package, *inside.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _names(path: Path) -> Iterator[str]:
    """Yield what the imports of a file may name: modules, and names that may be modules."""
    for node in _run(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and the statements below it, without those under `if TYPE_CHECKING:`."""
    yield node
    for below in ast.iter_child_nodes(node):
        typing = isinstance(below, ast.If) and ast.unparse(below.test) == "TYPE_CHECKING"
        if isinstance(below, _HOLDS_STATEMENTS) and not typing:
            yield from _run(below)
