"""Masks of images without any: a PNG of the image's own size, and a line of the table."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.load import compose, parse
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.models import ModelCard
from primia_flwr.pipeline.experiment import check_model
from primia_flwr.pipeline.predicted_masks import MaskWriter
from primia_flwr.pipeline.unlabelled import Opinion

NAMES = ("background", "lung", "cloud")
CARD = ModelCard(
    model=ModelConfig(name="unet"), classes=NAMES, channels=1, image_size=16, resize="squash",
    mean=(0.5,), std=(0.2,), config_hash="", round=1, synthetic=True,
)  # fmt: skip


def opinion(folder: Path) -> Opinion:
    (folder / "in/a").mkdir(parents=True)
    Image.fromarray(np.zeros((32, 64), np.uint8)).save(folder / "in/a/x.png")
    scores = torch.zeros(3, 16, 16, dtype=torch.float64)
    scores[1, :, 8:] = 1
    scores[2, :4, 8:] = 2
    return Opinion("a/x.png", folder / "in/a/x.png", scores)


def test_a_mask_by_hand(tmp_path: Path) -> None:
    row = MaskWriter(tmp_path / "out", CARD).row(opinion(tmp_path))
    assert row["mask"] == "masks/a/x.png.png"
    assert [row[f"share_{name}"] for name in NAMES] == [0.5, 0.375, 0.125]
    file = tmp_path / "out" / row["mask"]
    mask = np.asarray(Image.open(file))
    assert mask.shape == (32, 64)
    wanted = np.zeros((32, 64), np.uint8)
    wanted[:, 32:], wanted[:8, 32:] = 1, 2
    assert np.array_equal(mask, wanted)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_masks_of_slices_have_the_size_of_each_and_stand_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((8, 32), np.uint8)).save(tmp_path / "in/x.png")
    scores = torch.zeros(3, 16, 64, dtype=torch.float64)
    scores[2, :, 16:32] = 1  # the second of four slices of 16 x 16; it is stored as 8 x 8
    card = replace(CARD, model=ModelConfig(name="unet3d"), channels=4)
    row = MaskWriter(tmp_path / "out", card).row(Opinion("x.png", tmp_path / "in/x.png", scores))
    wanted = np.zeros((8, 32), np.uint8)
    wanted[:, 8:16] = 2
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / row["mask"])), wanted)
    assert row["share_cloud"] == 0.25


def test_scores_that_are_no_numbers_give_no_mask(tmp_path: Path) -> None:
    told = opinion(tmp_path)
    assert told.scores is not None
    told.scores[0, 0, 0] = float("nan")
    row = MaskWriter(tmp_path / "out", CARD).row(told)
    assert (row["mask"], row["plausible"], row["share_lung"]) == ("", False, None)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        MaskWriter(tmp_path / "out", CARD).row(opinion(tmp_path))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["task=segmentation"], r"model\.name=resnet18 .* outputs at each pixel: unet"),
        (["model=unet"], r"model\.name=unet with data\.task=classification; .* of each image"),
        (
            ["task=segmentation", "model=unet", "data.image_size=60"],
            r"data\.image_size=60 .* a multiple of 8, e\.g\. data\.image_size=64",
        ),
        (["task=segmentation", "model=unet", "training.class_weights=balanced"], "class_weights"),
    ],
)
def test_what_does_not_go_together_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_model(parse(Experiment, compose("config", words)))
