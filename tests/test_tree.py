"""The tree itself: no cycles, rooms that a reader takes in, and a bound on the public names."""

import ast
import importlib
from collections import Counter, defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from primia_flwr.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
PRODUCT = ("primia_flwr", "clients", "strategies")
FOLDERS = (*PRODUCT, "benchmarks/primia_bench", "tests", "conf")
MOST_FILES = 16
MOST_PUBLIC_NAMES = 28  # of a thousand lines; there were 33 before the rooms were cut
LONGEST = 20  # lines of a function, docstring included, of nine in ten


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "benchmarks" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports() -> dict[str, set[str]]:
    """Return the modules that each module imports, wherever in its file the import stands."""
    files = {module_of(path): path for path in sources(*PRODUCT, "benchmarks/primia_bench")}
    found: dict[str, set[str]] = {name: set() for name in files}
    for name, path in files.items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: a relative import; expected the whole name"
                asked = [f"{node.module}.{alias.name}" for alias in node.names]
                found[name] |= {one if one in files else str(node.module) for one in asked}
            elif isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
        found[name] = (found[name] & files.keys()) - {name}
    return found


def cycle_in(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def rooms(graph: dict[str, set[str]], depth: int) -> dict[str, set[str]]:
    """Return the graph of what lies `depth` names deep, a room with all that is in it as one."""
    merged = defaultdict[str, set[str]](set)
    for name, imported in graph.items():
        room, *others = (".".join(one.split(".")[:depth]) for one in (name, *sorted(imported)))
        merged[room] |= set(others) - {room}
    return merged


def test_no_module_imports_itself_over_others() -> None:
    assert cycle_in(imports()) == []


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_no_room_imports_itself_over_others(depth: int) -> None:
    assert cycle_in(rooms(imports(), depth)) == []


def test_a_cycle_is_found() -> None:
    graph = {"p.a.x": {"p.b.y"}, "p.b.y": set(), "p.b.z": {"p.a.w"}, "p.a.w": set()}
    assert cycle_in(graph) == []
    assert set(cycle_in(rooms(graph, 2))) == {"p.a", "p.b"}


def test_no_folder_has_more_files_than_a_reader_takes_in() -> None:
    counts = Counter(
        path.parent.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".yaml")
    )
    assert {folder: n for folder, n in counts.items() if n > MOST_FILES} == {}


def test_each_package_says_what_is_in_it_and_who_may_import_it() -> None:
    lengths = {}
    for path in sources(*PRODUCT, "benchmarks/primia_bench"):
        if path.name == "__init__.py":
            first = tree_of(path).body[0]
            lengths[module_of(path)] = (first.end_lineno or 0) - first.lineno + 1
            assert ast.get_docstring(tree_of(path)), path
    assert {name: n for name, n in lengths.items() if not 3 <= n <= 6} == {}
    assert len(lengths) > 60


def test_the_yaml_of_a_command_lies_where_the_command_does() -> None:
    named = {}
    for module, _ in COMMANDS.values():
        command = importlib.import_module(f"primia_flwr.cli.{module}").COMMAND
        named[module] = command.config_name
    composed = {module: name for module, name in named.items() if name != "config"}
    assert composed == {module: f"commands/{module.replace('.', '/')}" for module in composed}
    files = {path.relative_to(ROOT / "conf").with_suffix("").as_posix() for path in CONFS}
    assert files == set(composed.values())


CONFS = sorted((ROOT / "conf" / "commands").rglob("*.yaml"))


def public_names(path: Path) -> list[str]:
    """Return the functions, classes and constants at the top of a file that others may use."""
    names = []
    for node in tree_of(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def test_few_names_are_public() -> None:
    """The bound is what there was when it was last lowered: lower it, do not raise it."""
    files = sources(*PRODUCT)
    names = sum(len(public_names(path)) for path in files)
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
    assert 1000 * names / lines <= MOST_PUBLIC_NAMES


def test_most_functions_are_read_at_a_glance() -> None:
    nodes = [node for path in sources(*PRODUCT) for node in ast.walk(tree_of(path))]
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = sorted((n.end_lineno or 0) - n.lineno + 1 for n in functions)
    assert lengths[len(lengths) * 9 // 10] <= LONGEST
