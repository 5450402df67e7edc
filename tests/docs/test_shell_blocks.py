"""Every command line of the pages: the command is there, and takes these keys and values.

What is cheap is done: `primia new`, `primia provision`, help. The rest is composed and checked as
far as the command does before it starts. `<!-- not run: why -->` before a block leaves it out.
"""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from primia_flwr.cli.main import COMMANDS, run
from primia_flwr.cli.plugins import with_plugins
from primia_flwr.config import rows
from primia_flwr.config.load import compose
from primia_flwr.errors import PrimiaError
from tests.docs.blocks import PAGES, PRINTED, ROOT, SHELL, Block, all_blocks, command_lines

BLOCKS = all_blocks()
SHELLS = [block for block in BLOCKS if block.language in SHELL and not block.why]
DONE = ("new", "provision")  # really done, in a folder of the test
FLOWER = ("flower-superlink", "flower-superexec", "flwr")
OTHERS = ("cd", "export", "less", "pip", "pytest", "python3", "sha256sum", "source", "unzip")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder as the pages have it: a federation called fl, and what a search wrote."""
    path = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        sites = "sites=[munich,paris,london]"
        assert run(["provision", sites, "server=fl.example.org", "name=fl", "output=fl"]) == 0
        best = path / "outputs/2026-11-21/12-00-00-pneumonia/experiment/best.yaml"
        best.parent.mkdir(parents=True)
        shutil.copy(ROOT / "conf/experiment/pneumonia.yaml", best)
        yield path


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rows, "_PLUGINS", [])
    yield
    for name in [name for name in sys.modules if name.startswith("primia_plugins.")]:
        del sys.modules[name]
    rows._names.cache_clear()


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


def check_primia(words: list[str]) -> None:
    """Raise if `primia` would not begin with these words, or do what is cheap."""
    words = with_plugins(words)
    if "--help" in words or "--help=all" in words:
        assert run(words) == 0
        return
    name = next(n for n in (" ".join(words[:2]), words[0]) if n in COMMANDS)
    rest = words[len(name.split()) :]
    if words[0] in DONE and not any(
        word.startswith(("add=", "remove=", "renew=")) for word in rest
    ):
        for old in ("federations", "plugins", "services"):
            shutil.rmtree(old, ignore_errors=True)
        assert run(words) == 0
        return
    command = importlib.import_module(f"primia_flwr.cli.{COMMANDS[name][0]}").COMMAND
    if "-m" in rest:
        check_sweep([word for word in rest if word != "-m"])
        return
    if "--cfg" in rest:
        rest = rest[: rest.index("--cfg")]
    command.of_words(rest)


def check_sweep(words: list[str]) -> None:
    """Raise if what does not vary cannot be composed."""
    resumed = any(word.startswith("sweep.resume=") for word in words)  # it knows which search
    overrides = OverridesParser.create().parse_overrides([*["sweep=demo"] * resumed, *words])
    compose("config", [str(o.input_line) for o in overrides if not o.is_sweep_override()])


def check(words: list[str]) -> None:
    """Raise if a reader could not type this line."""
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    program, *rest = words
    if program == "primia":
        check_primia(rest)
    elif program == "eval":
        check(rest[0].removeprefix("$(").removesuffix(")").split())
    elif program == "make":
        assert {word for word in rest if "=" not in word} <= targets()
    elif program == "python":
        assert rest[0] == "-m", "tests/test_docs.py looks for the module"
    elif program in FLOWER:
        assert (Path(sys.executable).parent / program).exists()
    else:
        assert program in OTHERS, f"{program} is not known; mark the block <!-- not run: why -->"


@pytest.mark.parametrize("block", SHELLS, ids=str)
def test_a_block_can_be_typed(block: Block, folder: Path) -> None:
    for words in command_lines(block.text):
        check(words)


def test_no_page_has_a_block_of_a_kind_that_nothing_runs() -> None:
    left = {block.language for block in BLOCKS if not block.why}
    assert left <= {*SHELL, *PRINTED, "python", "yaml"}
    fences = sum(len(re.findall(r"^```", page.read_text(), re.M)) for page in PAGES)
    assert 2 * len(BLOCKS) == fences, "every fence was read"
    assert len(SHELLS) > 60


@pytest.mark.parametrize(
    "line",
    ["primia trian", "primia train federation.round=3", "primia train model=resnet81",
     "primia site check hello=1", "make nothing", "curl example.org"],
)  # fmt: skip
def test_a_line_that_cannot_be_typed_is_found(line: str, folder: Path) -> None:
    with pytest.raises((PrimiaError, AssertionError, StopIteration)):
        check(line.split())


def test_the_error_that_the_page_shows_is_the_one_that_is_printed() -> None:
    (block,) = (b for b in BLOCKS if b.page == "docs/configuration.md" and b.language == "text")
    command = [sys.executable, "-m", "primia_flwr.cli.main", "train", "aggregation=secur"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, block.text)
