"""What a liar trains on, and how much of it it sends."""

import pytest
import torch

from primia_flwr.attacks.poisoning.liars import Lie
from primia_flwr.data.dataset import LabelledImages


def images(labels: list[int]) -> LabelledImages:
    names = tuple(f"{n}.png" for n in range(len(labels)))
    pixels = torch.zeros(len(labels), 1, 4, 4, dtype=torch.uint8)
    return LabelledImages(pixels, torch.tensor(labels), names, names, ("a", "b", "c"))


@pytest.mark.parametrize(("attack", "factor"), [("label_flip", 1.0), ("boosted", 7.0)])
def test_labels_are_flipped_to_the_next_class(attack: str, factor: float) -> None:
    lie = Lie(attack, boost=7.0, target=0, patch=2)
    assert lie.trained_on(images([0, 1, 2])).labels.tolist() == [1, 2, 0]
    assert lie.factor == factor


def test_a_back_door_marks_every_second_image_and_calls_it_the_target() -> None:
    lie, honest = Lie("backdoor", boost=7.0, target=2, patch=2), images([0, 1, 1])
    found = lie.trained_on(honest)
    assert found.labels.tolist() == [2, 1, 2]
    corner = [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 255, 255], [0, 0, 255, 255]]
    assert found.images[:, 0].tolist() == [corner, [[0] * 4] * 4, corner]
    assert honest.images.sum() == 0, "the site's own images stay"
    assert lie.factor == 7.0


def test_who_does_not_lie_trains_on_what_it_has() -> None:
    honest = images([0, 1])
    assert Lie("none", 7.0, 0, 2).trained_on(honest) is honest
    assert Lie("none", 7.0, 0, 2).factor == 1.0
