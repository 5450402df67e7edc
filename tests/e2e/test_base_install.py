"""Sites with nothing but the base install train in a federation of a coordinator that has all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from primia_flwr.config.root import app_root
from primia_flwr.extras import EXTRAS
from primia_flwr.flower.supernodes import LocalSite
from primia_flwr.processes.children import Child
from primia_flwr.site.log import SiteLog
from tests.e2e.disturbed import Disturbed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
WHICH = (
    "import importlib.util, sys\n"
    "print([name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the checkout without extras, as a hospital does; return its programs' folder."""
    folder = tmp_path_factory.mktemp("hospital")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", app_root()]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "bin"


def test_the_base_install_has_no_package_of_an_extra(programs: Path) -> None:
    command = [programs / "python", "-I", "-c", WHICH, *EXTRAS]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"[]\n"


def test_a_simulation_says_in_one_sentence_what_it_lacks(programs: Path, tmp_path: Path) -> None:
    command = [programs / "primia", "train", "experiment=demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "error: deployment=simulation needs ray, which is not installed; expected the extra "
        "simulation: pip install 'primia-flwr[simulation]'\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("overrides", [(), ("privacy=dp_sgd", "privacy.epsilon=5")])
def test_its_sites_train_a_secure_round(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    class Hospital(LocalSite):
        def start(self) -> None:
            command = [str(programs / "primia"), "site", "run", f"site={self.policy_file}"]
            self._child = Child(
                f"site {self.name}",
                command,
                log_file=self.log_file,
                environment=dict(os.environ),
                folder=self.kit,
            )

    monkeypatch.setattr("primia_flwr.trials.loopback.LocalSite", Hospital)
    small = ("privacy.expected_batch=8", "privacy.steps=2", "model.norm=group")
    words = (*overrides, *small) if overrides else ()
    run = Disturbed(tmp_path / "run", *words, "federation.rounds=1")
    assert run.run()["rounds"] == 1
    assert {(row["site"], row["status"]) for row in run.sites()} == {
        ("site-1", "ok"), ("site-2", "ok"), ("site-3", "ok"),
    }  # fmt: skip
    left = [e.details["message"] for e in log_of(run, "site-1") if e.event == "left"]
    assert {"train", "query.secagg"} <= set(left)


def log_of(run: Disturbed, site: str) -> list[Any]:
    return list(SiteLog(run.kit(site) / "state/site-log.jsonl").entries())
