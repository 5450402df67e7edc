"""What the conformal task counts: one image a patient, by class and by bin of its score."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from primia_flwr.config.load import compose_experiment
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.tasks.classes import SET_SCORES
from primia_flwr.tasks.conformal import TASK
from primia_flwr.tasks.task import Evaluation
from primia_flwr.training.evaluate import evaluate
from primia_flwr.training.normalisation import Normalisation


def test_scores_are_counted_by_class_and_bin() -> None:
    # probabilities of the true class: 3/4, 1/2 and 1; scores 0.25, 0.5 and 0 in bins of 0.005
    logits = torch.tensor([[math.log(3), 0.0], [0.0, 0.0], [0.0, 200.0]], dtype=torch.float64)
    counts = TASK.measure_patients(logits, torch.tensor([0, 1, 1]))[SET_SCORES]
    assert counts.sum() == 3
    assert np.flatnonzero(counts).tolist() == [49, 200, 200 + 99]


class _Bright(nn.Module):
    """Calls a bright image class 1: logits 0 and ten times its mean."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(mean), 10 * mean], dim=1)


def test_one_image_of_each_patient_counts_and_batches_do_not_matter() -> None:
    files = tuple(f"{name}.png" for name in "abcdefg")
    images = torch.arange(7, dtype=torch.uint8)[:, None, None, None].expand(7, 1, 2, 2) * 30
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    patients = ("p", "p", "q", "r", "r", "r", "s")
    data = LabelledImages(images.clone(), labels, files, patients, ("x", "y"), task=TASK)
    found = [
        evaluate(
            _Bright(),
            data,
            normalisation=Normalisation((0.0,), (1.0,)),
            batch_size=size,
            device=torch.device("cpu"),
        ).counts[SET_SCORES]
        for size in (2, 7)
    ]
    assert np.array_equal(found[0], found[1])
    assert found[0].sum() == 4
    assert found[0][:200].sum() == 2
    turned = data.select([6, 5, 4, 3, 2, 1, 0])  # another order, the same images
    again = evaluate(
        _Bright(),
        turned,
        normalisation=Normalisation((0.0,), (1.0,)),
        batch_size=7,
        device=torch.device("cpu"),
    )
    assert np.array_equal(again.counts[SET_SCORES], found[0])


def test_more_patients_than_images_of_a_class_are_refused() -> None:
    scores = np.zeros(400, np.int64)
    scores[5], scores[200] = 2, 1
    sums = {"confusion": [2, 0, 0, 1], SET_SCORES: scores}
    assert Evaluation.of(TASK, 2, 1.0, 3, sums).num_examples == 3
    scores[200] = 2
    with pytest.raises(ProtocolError, match=r"set-scores counts 2 patients of class 1, of 1 image"):
        Evaluation.of(TASK, 2, 1.0, 3, sums)


def test_a_run_without_validation_has_no_sets() -> None:
    with pytest.raises(ConfigError, match=r"data\.task=conformal in a run whose sites report no"):
        compose_experiment(["task=conformal", "privacy=dp_sgd", "model.norm=group"])
