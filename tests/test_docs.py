"""The documentation names what is there: links, paths in backticks, commands of benchmarks."""

import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
# What a page asks its reader to write.
TO_BE_WRITTEN = {"conf/experiment/mine.yaml"}

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_PATH = re.compile(r"`((?:primia_flwr|clients|strategies|conf|tests|benchmarks)/[^\s`:]*)[^`]*`")
_DOTTED = re.compile(r"`((?:primia_flwr|primia_bench|clients|strategies)(?:\.\w+)+)")
_MODULE = re.compile(r"python -m ((?:primia_bench|primia_flwr|clients|strategies|tests)[\w.]*)")


def anchors(text: str) -> set[str]:
    """Return what one may link to on a page, as GitHub names its headings."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> Iterator[str]:
    """Return the relative links of a page that lead nowhere, anchors included."""
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (
            anchor and anchor not in anchors(target.read_text(encoding="utf-8"))
        ):
            yield link


def missing_paths(text: str) -> Iterator[str]:
    """Return the paths in backticks that do not exist; `{a,b}` and `*` stand for some that do."""
    for path in _PATH.findall(text):
        if path in TO_BE_WRITTEN or "<" in path or path.startswith("primia_flwr/_bundle/"):
            continue
        pattern = re.sub(r"\{[^}]*\}", "*", path.rstrip("/"))
        if not any(ROOT.glob(pattern)):
            yield path


def missing_modules(text: str) -> Iterator[str]:
    """Return the modules that commands of a page name and nobody has."""
    for name in _MODULE.findall(text):
        try:
            found = find_spec(name.rstrip("."))
        except ModuleNotFoundError:
            found = None
        if found is None:
            yield name


def missing_names(text: str) -> Iterator[str]:
    """Return the dotted names in backticks that are neither a module nor a name in one."""
    for name in _DOTTED.findall(text):
        module, _, last = name.rpartition(".")
        if not any(missing_modules(f"python -m {name}")):
            continue
        if any(missing_modules(f"python -m {module}")) or not hasattr(import_module(module), last):
            yield name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert list(broken_links(page, text)) == []
    assert list(missing_paths(text)) == []
    assert list(missing_modules(text)) == []
    assert list(missing_names(text)) == []


def test_every_page_is_on_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {
        (index.parent / link.partition("#")[0]).resolve()
        for link in _LINK.findall(index.read_text(encoding="utf-8"))
    }
    assert [page for page in PAGES if index.parent in page.parents and page not in linked] == [
        index
    ]


def test_a_broken_link_path_or_module_is_found() -> None:
    page = ROOT / "README.md"
    assert list(broken_links(page, "[a](docs/none.md) [b](#none) [c](docs/index.md)")) == [
        "docs/none.md",
        "#none",
    ]
    text = "`clients/none.py` `clients/leaving.py` `conf/experiment/*.yaml` `tests/none_*.py`"
    assert list(missing_paths(text)) == ["clients/none.py", "tests/none_*.py"]
    names = "`primia_flwr.load_model` `primia_flwr.none` `primia_flwr.site.gate` `clients.none.x`"
    assert list(missing_names(names)) == ["primia_flwr.none", "clients.none.x"]
    commands = "python -m primia_bench.none; python -m primia_bench.none.x; python -m tests.fuzz"
    assert list(missing_modules(commands)) == ["primia_bench.none", "primia_bench.none.x"]
