"""Three sites train a 3-D U-Net on stacks of slices, and the model is used on others."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from primia_flwr.runs.metadata import read_json
from primia_flwr.tasks.masks.plots import _in_rows
from tests.data.layouts.test_msd import decathlon
from tests.e2e.in_memory import without_processes
from tests.e2e.runner import InProcess, last_json

WORDS = (
    "task=segmentation", "model=unet3d", "data=msd", "data.root=in", "data.cache_dir=cache",
    "data.image_size=16", "data.frames=8", "federation.sites=[a,b,c]", "federation.min_sites=3",
    "federation.rounds=1", "model.norm=group", "baselines=[]", "tracking=disabled",
    "report.saliency=1", "quiet=true", "training.threads=1",
)  # fmt: skip


def test_secure_and_plain_runs_end_in_one_model_that_predicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decathlon(tmp_path, cases=14)
    monkeypatch.chdir(tmp_path)
    primia = InProcess(tmp_path)
    with without_processes():
        for way in ("secure", "plain"):
            done = primia("train", *WORDS, f"aggregation={way}", f"output_dir={way}")
            assert done.returncode == 0, done.stderr
    models = [(tmp_path / way / "model.safetensors").read_bytes() for way in ("secure", "plain")]
    assert models[0] == models[1]
    assert read_json(tmp_path / "secure/model.json")["channels"] == 8
    rows = list(csv.DictReader((tmp_path / "secure/predictions.csv").open()))
    assert {row["mask"].partition(":")[0] for row in rows} == {"16x128"}  # eight slices of 16
    assert len({row["patient"] for row in rows}) == len(rows)  # a case is one stack
    (stack,) = tmp_path.glob("cache/slices-*/images/liver_1/0001.png")
    (tmp_path / "today").mkdir()
    shutil.copy(stack, tmp_path / "today/x.png")
    done = primia("predict", "run=secure", "data.root=today", "output=found", "quiet=true")
    assert (done.returncode, last_json(done.stdout)["images"]) == (0, 1), done.stderr
    assert np.asarray(Image.open(tmp_path / "found/masks/x.png.png")).shape == (12, 96)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("data.frames=6", "data.frames=6 with model.name=unet3d; expected a multiple of 4"),
        ("data.frames=1", "data.frames=1 with model.name=unet3d"),
        ("data.image_size=18", "data.image_size=18 with model.name=unet3d; expected a multiple"),
        ("model=unet_small", "data.frames=8 with model.name=unet_small; expected a model that"),
        ("model.norm=none", "model.norm=none with model.name=unet3d; expected batch or group"),
        ("task=classification", "with data.task=classification"),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, said: str
) -> None:
    decathlon(tmp_path, cases=14)
    monkeypatch.chdir(tmp_path)
    done = InProcess(tmp_path)("train", *WORDS, words, "output_dir=run")
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_slices_are_drawn_in_rows() -> None:
    stack = np.repeat(np.arange(1, 6), 2)[None].repeat(2, axis=0)  # five slices of 2 x 2
    rows = _in_rows(stack)
    assert rows.tolist() == [[1, 1, 2, 2, 3, 3]] * 2 + [[4, 4, 5, 5, 0, 0]] * 2
    assert _in_rows(stack[:, :2]).shape == (2, 2)
