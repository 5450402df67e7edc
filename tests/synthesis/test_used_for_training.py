"""What a run on generated images says of itself, and that it is not taken for one of nobody's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from primia_flwr.config.load import compose_experiment
from primia_flwr.data.reading.common import GENERATED, note_generated
from primia_flwr.pipeline.experiment import _data
from primia_flwr.pipeline.first_model import trained_provenance
from tests.data.folder_maker import CLASSES, png_set
from tests.e2e.runner import Primia

_SMALL = (
    "data.image_size=16", "privacy.expected_batch=8", "privacy.delta=1e-2", "generator.width=8",
    "generator.discriminator_width=8", "device=cpu",
)  # fmt: skip


class Heard(list[str]):
    def say(self, text: str) -> None:
        self.append(text)


def test_the_run_says_that_a_generator_made_its_images(tmp_path: Path) -> None:
    root = png_set(tmp_path / "made", patients=12)
    note_generated(root)
    words = ["data=folder", f"data.root={root}", f"data.cache_dir={tmp_path}", "data.image_size=16"]
    experiment, heard = compose_experiment(words), Heard()
    facts: dict[str, Any] = _data(experiment, None, heard)  # type: ignore[arg-type]
    assert facts["generated"] == GENERATED
    assert facts["synthetic"] is False
    assert any(GENERATED in sentence for sentence in heard)
    # else a private run could start from what it teaches, as if no patient were in it
    assert not trained_provenance(experiment, epsilon=None).drawn


@pytest.mark.slow
def test_a_model_is_trained_on_them_by_the_command_that_is_printed(tmp_path: Path) -> None:
    png_set(tmp_path / "scans", patients=6)
    primia = Primia(tmp_path)
    words = ("data.root=scans", f"data.classes=[{','.join(CLASSES)}]", "privacy.steps=4", *_SMALL)
    done = primia("synthesise", *words, "images=40", "output=made")
    assert done.returncode == 0, done.stderr
    command = json.loads(done.stdout.splitlines()[-1])["train"].split()
    more = ("federation.rounds=1", "model=simpleconv", "tracking=disabled", "output_dir=run")
    trained = primia(*command[1:], *more, "baselines=[]", "training.threads=1")
    assert trained.returncode == 0, trained.stderr
    assert GENERATED in (tmp_path / "run" / "report.html").read_text()
    assert GENERATED in (tmp_path / "run" / "model_card.md").read_text()


@pytest.mark.slow
def test_ctrl_c_leaves_no_folder_and_no_charge_and_the_command_goes_again(tmp_path: Path) -> None:
    png_set(tmp_path / "scans", patients=6)
    words = ["data.root=scans", f"data.classes=[{','.join(CLASSES)}]", "output=made", *_SMALL]
    command = [sys.executable, "-m", "primia_flwr.cli.main", "synthesise", *words]
    ledger = tmp_path / ".primia/private/privacy"
    process = subprocess.Popen([*command, "privacy.steps=100000"], cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not list(ledger.glob("data/*.units")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert not [p for p in tmp_path.iterdir() if p.name not in ("scans", ".primia")]
    again = subprocess.run([*command, "privacy.steps=3", "images=2"], cwd=tmp_path, check=False)
    assert again.returncode == 0
    shown = Primia(tmp_path)("privacy", "show", f"ledger={ledger}")
    assert json.loads(shown.stdout.splitlines()[-1])["charges"] == 1
