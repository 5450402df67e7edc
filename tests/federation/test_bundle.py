"""The bundle that sites approve: the same files give the same hash, and only the app is in it."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from primia_flwr.errors import FederationError
from primia_flwr.federation import bundle as bundle_module
from primia_flwr.federation.bundle import stage_bundle


def test_the_same_code_has_the_same_hash(tmp_path: Path) -> None:
    one, two = stage_bundle(tmp_path / "one"), stage_bundle(tmp_path / "two")
    assert one.sha256 == two.sha256
    assert len(one.sha256) == 64


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
    left_out = ("primia_flwr/crypto/", "primia_flwr/cli/")
    assert not [name for name in names if name.startswith(left_out)]
    assert len(content) < 1_150_000


_IMPORTS = """
import sys
import clients.answers, clients.client_app, clients.private, clients.private_statistics
import primia_flwr, strategies.server_app
print({module.split(".")[1] for module in sys.modules if module.startswith("primia_flwr.")} - {""})
print(primia_flwr.__file__)
"""


def test_the_app_needs_nothing_that_was_left_out(tmp_path: Path) -> None:
    folder = stage_bundle(tmp_path).folder
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS], cwd=folder, capture_output=True, text=True, check=True
    )
    parts, file = done.stdout.splitlines()
    assert Path(file).is_relative_to(folder)
    assert not {"cli", "crypto"} & ast.literal_eval(parts)


def test_an_incomplete_app_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "app_root", lambda: tmp_path / "nothing")
    with pytest.raises(FederationError, match=r"pyproject.toml not found"):
        stage_bundle(tmp_path / "out")
