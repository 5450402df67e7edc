"""What is told of an image by a model with outputs at each pixel."""

import torch

from primia_flwr.cli.inference.findings import finding
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models import ModelCard

CARD = ModelCard(
    model=ModelConfig(name="unet"), classes=("background", "lung"), channels=1, image_size=16,
    resize="squash", mean=(0.5,), std=(0.2,), config_hash="", round=1, synthetic=True,
)  # fmt: skip


def test_a_mask_is_runs_and_shares() -> None:
    scores = torch.zeros(2, 2, 3, dtype=torch.float64)
    scores[1, 1, 1:] = 1
    found = finding(CARD, scores)
    assert found["prediction"] == "2x3:0*4 1*2"
    assert (found["share_background"], found["share_lung"]) == (4 / 6, 2 / 6)
    assert torch.equal(torch.tensor(found["scores"]).double(), scores)


def test_where_nothing_is_known_nothing_is_told() -> None:
    found = finding(CARD, None)
    assert list(found) == ["prediction", "share_background", "share_lung", "scores"]
    assert set(found.values()) == {None}
