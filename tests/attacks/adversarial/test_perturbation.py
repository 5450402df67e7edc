"""FGSM and PGD on a model of which every number is known."""

import pytest
import torch
from torch import nn

from primia_flwr.attacks.adversarial.perturbation import Attacked
from primia_flwr.attacks.adversarial.report import Level, answer
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.training.normalisation import Normalisation


class Brighter(nn.Module):
    """Class 1 where the mean pixel is above a half."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = images.mean(dim=(1, 2, 3)) - 0.5
        return torch.stack([-bright, bright], dim=1)


def images(*levels: int) -> LabelledImages:
    pixels = torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    labels = torch.tensor([int(level > 127) for level in levels])
    names = tuple(map(str, range(len(levels))))
    return LabelledImages(pixels.clone(), labels, names, names, ("dark", "bright"))


def attacked(model: nn.Module, steps: int = 20) -> Attacked:
    same = Normalisation((0.0,), (1.0,))
    return Attacked(model, same, torch.device("cpu"), steps, 1, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_an_image_errs_as_soon_as_it_can_pass_the_bound(method: str) -> None:
    """Levels 120 and 135 are 7.5 from the middle, 100 is 27.5: 8 passes the first two only."""
    asked = images(120, 135, 100)
    wrong = attacked(Brighter()).wrong(asked, method, 8 / 255, batch=2)
    assert wrong.tolist() == [True, True, False]
    assert attacked(Brighter()).wrong(asked, method, 0.0, batch=2).tolist() == [False] * 3
    assert attacked(Brighter()).wrong(asked, method, 7 / 255, batch=3).tolist() == [False] * 3


def test_pixels_stay_within_the_distance_and_within_black_and_white() -> None:
    tried = attacked(Brighter())
    pixels, labels = torch.tensor([[[[0.0, 1.0], [0.5, 0.52]]]]), torch.tensor([1])
    for method in ("fgsm", "pgd"):
        changed = tried._changed(pixels, labels, method, 0.1)
        expected = torch.tensor([[[[0.0, 0.9], [0.4, 0.42]]]])  # darker, as class 1 is bright
        torch.testing.assert_close(changed, expected)


def test_pgd_turns_where_fgsm_walks_past() -> None:
    """The model errs between 0.55 and 0.65 only: a whole step from 0.5 by 0.2 goes past it."""

    class Window(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            near = 0.05 - (images.mean(dim=(1, 2, 3)) - 0.6).abs()
            return torch.stack([-near, near], dim=1)

    asked = images(127)
    assert asked.labels.tolist() == [0]
    assert attacked(Window()).wrong(asked, "fgsm", 0.2, batch=1).tolist() == [False]
    assert attacked(Window()).wrong(asked, "pgd", 0.2, batch=1).tolist() == [True]


def test_a_weak_search_is_owned_up_to() -> None:
    levels = [Level(0, 50, 0.9, 0.9), Level(1, 50, 0.5, 0.6), Level(2, 50, 0.4, 0.3)]
    assert [one.to_dict()["pgd_at_least_as_strong"] for one in levels] == [True, False, True]
    assert answer(levels) == (
        "0.900 of 50 images are recognised at 0 levels; at 2 of 255, 0.300 are left; PGD was "
        "weaker than FGSM at 1."
    )
