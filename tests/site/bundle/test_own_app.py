"""A bundle is taken for the installed app only where it is that app, byte for byte."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from primia_flwr.flower.bundle import stage_bundle
from primia_flwr.site.bundle import own_app
from primia_flwr.site.bundle.contents import read_files
from tests.site.bundle_maker import make_installable

# What a site does for two messages, one of each kind, in a process that was forked for neither.
MESSAGES = """
import json, sys
from pathlib import Path
import primia_flwr.site.preloaded
from primia_flwr.site.bundle import own_app
from primia_flwr.site.bundle.installed import unpacked_files
from primia_flwr.site.gate import Gate
from types import SimpleNamespace
def loaded(content):
    gate, own = Gate(Path("site.yaml")), sys.modules["clients.client_app"]
    gate.note((None, None, None, SimpleNamespace(content=content)))
    gate.make_way()
    return sys.modules.get("clients.client_app") is own
before = set(sys.modules)
same = loaded(Path(sys.argv[1]).read_bytes())
import clients.handlers.train, clients.handlers.evaluate
new = sorted(set(sys.modules) - before)
print(json.dumps([same, new, loaded(Path(sys.argv[2]).read_bytes()), sys.path[0]]))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return stage_bundle(tmp_path_factory.mktemp("staged")).content


@pytest.fixture(scope="module")
def files(bundle: bytes) -> dict[str, bytes]:
    own_app.import_app()
    return {n: raw for n, raw in read_files(bundle).items() if not n.startswith(".info/")}


def test_the_bundle_of_this_installation_is_the_app(files: dict[str, bytes]) -> None:
    assert {name.split("/")[0] for name in files} == {
        *("primia_flwr", "clients", "strategies", "conf"),
        *("pyproject.toml", "LICENSE"),
    }
    assert own_app.is_own(files)
    assert own_app.is_own(files | {"LICENSE": b"another one"})


@pytest.mark.parametrize(
    "name",
    [
        *("clients/client_app.py", "primia_flwr/errors.py", "strategies/fedavg.py"),
        *("conf/config.yaml", "conf/experiment/demo.yaml"),
    ],
)
def test_one_byte_makes_it_another_app(files: dict[str, bytes], name: str) -> None:
    assert not own_app.is_own(files | {name: files[name] + b"\n"})


@pytest.mark.parametrize(
    "name", ["mine.py", "strategies/mine.py", "conf/strategy/mine.yaml", "other/data.json"]
)
def test_one_more_file_makes_it_another_app(files: dict[str, bytes], name: str) -> None:
    assert not own_app.is_own(files | {name: b""})


def test_nothing_is_the_app_where_none_was_imported(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_app, "_imported", {})
    assert not own_app.is_own(files)
    assert not own_app.is_own({})
    assert not own_app.is_own({"LICENSE": b""})


def test_an_installation_that_changes_while_it_is_imported_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_app, "_imported", {})
    digests = iter([{"clients/a.py": b"before"}, {"clients/a.py": b"after"}])
    monkeypatch.setattr(own_app, "_digests", lambda: next(digests))
    own_app.import_app()
    assert own_app._imported == {}


def test_a_message_of_the_installed_app_imports_nothing_anew(bundle: bytes, tmp_path: Path) -> None:
    own, other = tmp_path / "own.fab", tmp_path / "other.fab"
    own.write_bytes(bundle)
    other.write_bytes(make_installable({"clients/client_app.py": b"app = None\n"}))
    command = [sys.executable, "-c", MESSAGES, str(own), str(other)]
    done = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path)
    same, new, other_same, first = json.loads(done.stdout)
    assert same
    assert new == []
    assert not other_same
    assert first == ""  # the path is as it was
