"""The bundle that sites approve: the same files give the same hash, and only the app is in it."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from primia_flwr.config.root import app_root
from primia_flwr.errors import FederationError
from primia_flwr.flower import bundle as bundle_module
from primia_flwr.flower.bundle import stage_bundle


def test_the_same_code_has_the_same_hash(tmp_path: Path) -> None:
    one, two = stage_bundle(tmp_path / "one"), stage_bundle(tmp_path / "two")
    assert one.sha256 == two.sha256
    assert len(one.sha256) == 64


@pytest.mark.slow
def test_a_wheel_has_the_bundle_of_the_checkout_that_it_was_built_from(tmp_path: Path) -> None:
    def run(*command: object, path: Path | None = None) -> str:
        environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
        done = subprocess.run(
            [*map(str, command)], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    checkout, installed = tmp_path / "checkout", tmp_path / "installed"
    run("git", "clone", "--quiet", app_root(), checkout)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, checkout)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(installed)
    code = (
        "import sys, pathlib, primia_flwr\n"
        "from primia_flwr.flower.bundle import stage_bundle\n"
        "assert primia_flwr.__file__.startswith(sys.argv[1])\n"
        "print(stage_bundle(pathlib.Path(sys.argv[2])).sha256)\n"
    )
    hashes = {
        run(sys.executable, "-c", code, place, tmp_path / "app", path=place)
        for place in (checkout, installed)
    }
    assert len(hashes) == 1


def test_where_the_parts_lie_does_not_change_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a wheel, in which the other parts lie within the package."""
    before, package = stage_bundle(tmp_path / "one"), tmp_path / "primia_flwr"
    shutil.copytree(app_root() / "primia_flwr", package)
    for part in ("clients", "strategies", "conf"):
        shutil.copytree(app_root() / part, package / "_bundle" / part)
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copyfile(app_root() / name, package / "_bundle" / name)
    monkeypatch.setattr(bundle_module, "app_root", lambda: package / "_bundle")
    monkeypatch.setattr(bundle_module, "__file__", str(package / "flower" / "bundle.py"))
    assert stage_bundle(tmp_path / "two").sha256 == before.sha256


def test_changed_code_has_another_hash(tmp_path: Path) -> None:
    before = stage_bundle(tmp_path / "a")
    changed = before.folder / "clients" / "client_app.py"
    changed.write_text(changed.read_text() + "\n# changed\n")
    assert bundle_module.build_fab_from_disk(before.folder) != before.content


def test_only_the_app_travels(tmp_path: Path) -> None:
    content = stage_bundle(tmp_path).content
    names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {
        "primia_flwr", "clients", "strategies", "conf", "pyproject.toml", "LICENSE", ".info",
    }  # fmt: skip
    assert "conf/experiment/demo.yaml" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    left_out = ("inference/", "cli/", "search/", "attacks/", "site/gate.py",
                "statistics/", "plotting.py", "tasks/judge.py", "tasks/classes/scores.py",
                "tasks/classes/readers/")  # fmt: skip
    behind = ("conf/commands/", *(f"primia_flwr/{part}" for part in left_out))
    assert not [name for name in names if name.startswith(behind)]
    assert {
        "primia_flwr/secagg/payload/masks.py",
        "primia_flwr/privacy/mechanisms/averaging.py",
        "primia_flwr/tasks/classes/loss.py",
        "primia_flwr/tasks/classification.py",  # rows, which nothing imports by their names
        "primia_flwr/models/architectures/vgg16.py",
        "primia_flwr/data/layouts/manifest.py",
    } <= set(names)
    assert len(content) < 2_050_000  # a site keeps each approved one


def test_the_staged_app_needs_nothing_that_stayed_behind(tmp_path: Path) -> None:
    """Every module of it can be imported with the staged folder alone on the path."""
    folder = stage_bundle(tmp_path).folder
    code = (
        "import importlib, pathlib, sys; root = pathlib.Path(sys.argv[1])\n"
        "for path in sorted(root.rglob('*.py')):\n"
        "    name = '.'.join(path.relative_to(root).with_suffix('').parts)\n"
        "    module = importlib.import_module(name.removesuffix('.__init__'))\n"
        "    assert module.__file__.startswith(str(root)), module\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_incomplete_app_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "app_root", lambda: tmp_path / "nothing")
    with pytest.raises(FederationError, match=r"pyproject.toml not found"):
        stage_bundle(tmp_path / "out")
