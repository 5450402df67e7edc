"""Sequences from secure training with differential privacy to a clinic's encrypted answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.card import ModelCard
from primia_flwr.models.registry import build_model
from primia_flwr.models.saved import load_model, save_model
from primia_flwr.trials.service import running_service
from tests.e2e.in_memory import without_processes
from tests.e2e.inference.test_private_then_encrypted import PRIVATE
from tests.e2e.runner import TINY, InProcess, last_json
from tests.e2e.test_encrypted_inference import infer

SEQUENCES = (
    *(word for word in TINY if not word.startswith(("model=", "data.synthetic.patients="))),
    "data.synthetic.patients=20", "data.frames=3", "model=sequence", "model.temporal=conv",
    "model.norm=none", "report.saliency=1",
)  # fmt: skip


def write_sequences(folder: Path, count: int) -> Path:
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(count):
        pixels = random.integers(0, 256, (32, 96), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return folder


@pytest.mark.slow
def test_private_sequences_are_served_encrypted(tmp_path: Path) -> None:
    primia = InProcess(tmp_path)
    with without_processes():
        trained = primia("train", *SEQUENCES, *PRIVATE, "output_dir=run")
    assert trained.returncode == 0, trained.stderr
    card = load_model(tmp_path / "run")[1]
    assert (card.frames, card.channels, len(card.mean)) == (3, 3, 3)
    assert "epsilon = 8" in card.privacy
    assert Image.open(tmp_path / "run" / "saliency" / "case-01.png").size == (96, 32)
    folder = write_sequences(tmp_path / "validation", 4)
    calibrated = primia("inference", "calibrate", "model=run", f"data.root={folder}")
    assert calibrated.returncode == 0, calibrated.stderr
    served = primia("inference", "trial", "model=run", "images=4", "batch=2", "audit=true")
    assert served.returncode == 0, served.stderr
    result = last_json(served.stdout)
    assert (result["images"], result["agreement"], result["outside"]) == (4, 1.0, 0)


@pytest.mark.slow
def test_a_clinic_is_told_which_file_is_no_sequence(tmp_path: Path) -> None:
    cfg = ModelConfig(name="sequence")
    card = ModelCard(
        cfg, ("ill", "well"), 3, 32, "squash", (0.5,) * 3, (0.25,) * 3, "0" * 16, 1, True
    )
    save_model(tmp_path / "model", build_model(cfg, outputs=2, channels=3, seed=0), card)
    folder = write_sequences(tmp_path / "today", 2)
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(folder / "01.png")
    with running_service(tmp_path / "model") as service:
        refused = infer(service, folder, tmp_path / "answers")
    assert refused.returncode != 0
    told = " ".join(refused.stderr.split())
    assert "01.png: has 32 x 32 pixels; expected 3 square frames side by side" in told
    assert "Traceback" not in told
