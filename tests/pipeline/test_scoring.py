"""A model is tested in the precision that it was validated in."""

from pathlib import Path

import numpy as np
import pytest
import torch

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.evaluation.predictions import read_predictions
from primia_flwr.models.card import ModelCard
from primia_flwr.pipeline.scoring import score_model
from primia_flwr.training.evaluate import predict
from primia_flwr.training.normalisation import Normalisation
from tests.training.tiny_training import random_images, small_net


@pytest.mark.parametrize(("asked", "used"), [("bf16", "bf16"), ("fp32", "fp32"), ("fp16", "fp32")])
def test_the_run_tests_as_it_validates(asked: str, used: str, tmp_path: Path) -> None:
    images, model = random_images(12), small_net()
    card = ModelCard(
        model=ModelConfig(name="simpleconv"),
        classes=images.classes,
        channels=1,
        image_size=16,
        resize="squash",
        mean=(0.5,),
        std=(0.25,),
        config_hash="",
        round=1,
        synthetic=True,
    )
    path = tmp_path / "predictions.csv"
    score_model(model, card, images, path, batch_size=5, device="cpu", precision=asked)
    by_precision = {
        precision: predict(
            model,
            images,
            normalisation=Normalisation((0.5,), (0.25,)),
            batch_size=5,
            device=torch.device("cpu"),
            precision=precision,
        )
        for precision in ("fp32", "bf16")
    }
    assert np.abs(by_precision["fp32"] - by_precision["bf16"]).max() > 1e-6
    found = np.array(read_predictions(path, images.task.judge).outputs)
    np.testing.assert_allclose(found, by_precision[used], atol=2e-7)
