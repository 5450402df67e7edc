"""The three attacks on answers whose leak is planted."""

from functools import lru_cache

import numpy as np
import pytest
import torch

from primia_flwr.attacks.membership import detection
from primia_flwr.attacks.membership.lira import BoolArray
from primia_flwr.attacks.membership.membership import Membership, infer_membership, yeom_threshold
from primia_flwr.attacks.membership.shadow_plan import plan_shadows
from primia_flwr.data.dataset import LabelledImages

N, SHADOWS = 1200, 8


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "_RESAMPLES", 50)


def images() -> LabelledImages:
    """Two images a patient."""
    return LabelledImages(
        torch.zeros(N, 1, 1, 1, dtype=torch.uint8),
        torch.zeros(N, dtype=torch.int64),
        tuple(f"{i}.png" for i in range(N)),
        tuple(f"p{i // 2}" for i in range(N)),
        ("ill", "well"),
    )


@lru_cache
def attack(leak: float, *, known_to_shadows: bool = True) -> tuple[Membership, BoolArray]:
    """Confidences are hard or easy by image (deviation 4), and `leak` larger where trained on."""
    rng = np.random.default_rng(2)
    data = images()
    patient_is_member = rng.random(N // 2) < 0.5
    member = patient_is_member.repeat(2)
    difficulty = rng.normal(size=N) * 4
    inside = plan_shadows(data.patients, [0] * N, parts=2, shadows=SHADOWS, seed=5)
    shadows = difficulty + leak * inside + 0.1 * rng.normal(size=inside.shape)
    phi = difficulty + leak * member + 0.1 * rng.normal(size=N)
    p = 1 / (1 + np.exp(-phi))
    if not known_to_shadows:
        inside = np.zeros_like(inside)
        shadows = difficulty + 0.1 * rng.normal(size=inside.shape)
    answers = np.stack([p, 1 - p], axis=1)
    found = infer_membership(answers, data, member, shadows, inside, variance="auto", seed=0)
    return found, member


def test_lira_finds_a_leak_that_difficulty_hides_from_the_loss() -> None:
    found, _ = attack(1.0)
    assert found.detections["lira_offline"]["image"].auc.value > 0.99
    assert found.detections["lira_online"]["image"].auc.value > 0.99
    assert found.detections["lira_offline"]["patient"].auc.value > 0.999
    loss = found.detections["loss"]["image"].auc.value
    assert loss == pytest.approx(0.57, abs=0.04)  # Phi(1 / (4 sqrt 2)) = 0.570


def test_where_nothing_leaks_nothing_is_found() -> None:
    found, _ = attack(0.0)
    for levels in found.detections.values():
        for judged in levels.values():
            assert judged.auc.value == pytest.approx(0.5, abs=0.05)
            at = judged.tpr_at[0.01]
            assert at is not None
            assert at.value < 0.05


def test_a_leak_that_drowns_everything_is_found_by_the_loss_too() -> None:
    found, _ = attack(40.0)
    assert all(levels["image"].auc.value > 0.999 for levels in found.detections.values())


def test_online_is_left_out_where_no_shadow_model_saw_the_images() -> None:
    found, _ = attack(1.0, known_to_shadows=False)
    assert list(found.detections) == ["loss", "lira_offline"]
    assert found.detections["lira_offline"]["image"].auc.value > 0.99


def test_patients_are_counted_once() -> None:
    found, member = attack(0.0)
    judged = found.detections["loss"]
    assert judged["image"].members == int(member.sum()) == 2 * judged["patient"].members
    assert judged["patient"].members + judged["patient"].non_members == N // 2


def test_the_threshold_at_the_mean_training_loss_by_hand() -> None:
    losses = np.array([1.0, 2.0, 6.0, 3.0, 4.0])
    found = yeom_threshold(losses, np.array([True, True, True, False, False]))
    assert found.mean_training_loss == 3.0
    assert (found.tpr, found.fpr) == (pytest.approx(2 / 3), 0.5)
    assert found.to_dict()["advantage"] == pytest.approx(1 / 6, abs=1e-6)
