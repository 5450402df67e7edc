"""A U-Net in its encrypted form: two local steps more, and the same class at nearly every pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.lowering.lowering import lower
from primia_flwr.inference.lowering.precision import precision_of
from primia_flwr.inference.lowering.rehearsal import Rehearsal
from primia_flwr.inference.overflow.limits import check_plan
from primia_flwr.inference.plan import Concat, Enlarge, MaxLevel, Relu, Reveal, num_compared
from primia_flwr.inference.protocol.plausibility import judged
from primia_flwr.models.architectures.unet import UNet
from primia_flwr.models.registry import build_model
from tests.inference.memory_link import classify


def unet(norm: str) -> nn.Module:
    return build_model(ModelConfig(name="unet", norm=norm), outputs=3, channels=1, seed=0).eval()


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_the_plan_by_hand(norm: str) -> None:
    plan = lower(unet(norm), (1, 1, 32, 32)).plan
    relus = [num_compared(step) for step in plan.comparisons if isinstance(step, Relu)]
    maxima = [num_compared(step) for step in plan.comparisons if isinstance(step, MaxLevel)]
    down = [16 * 32**2, 32 * 16**2, 64 * 8**2, 128 * 4**2]
    up = [64 * 8**2, 32 * 16**2, 16 * 32**2]
    assert relus == [size for size in (*down, *up) for _ in range(2)]
    # 2 x 2 of each map before a level further down: along the columns, then along the rows.
    assert maxima == [part for size in down[:3] for part in (size // 2, size // 4)]
    joined = [step.shape for step in plan.steps if isinstance(step, Concat)]
    assert joined == [(1, 192, 8, 8), (1, 96, 16, 16), (1, 48, 32, 32)]
    assert [step.factor for step in plan.steps if isinstance(step, Enlarge)] == [2, 2, 2]
    assert isinstance(plan.steps[-1], Reveal)
    assert plan.steps[-1].shape == (1, 3, 32, 32)
    check_plan(plan)  # every number that is multiplied was compared


def test_two_parties_find_what_the_model_says() -> None:
    torch.manual_seed(0)
    cfg = ModelConfig(name="unet", norm="none")
    model = UNet(cfg, 3, 1, widths=(4, 8)).eval()
    images = torch.randn(2, 1, 8, 8)
    lowered = lower(model, tuple(images.shape))
    scores, *_ = classify(lowered, images)
    with torch.inference_mode():
        plain = model(images).double()
    assert scores.shape == plain.shape
    assert (scores - plain).abs().max() < 0.02
    fixed = Rehearsal(lowered, generator=torch.Generator().manual_seed(0)).classify(images)
    assert (scores - fixed).abs().max() < 0.02


def test_cells_are_repeated_along_both_axes() -> None:
    share = torch.tensor([[[[1, 2], [3, 4]]]])
    assert torch.equal(
        ring.enlarge(share, 2), nn.Upsample(scale_factor=2)(share.float()).to(torch.int64)
    )


class Joined(nn.Module):
    """Joins two maps along an axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], dim=self.axis)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear")), "mode=bilinear"),
        (nn.Sequential(nn.Upsample(scale_factor=1.5)), "scale_factor=1.5"),
        (nn.Sequential(nn.Upsample(size=(16, 16))), "nearest by a whole number"),
        (Joined(2), "axis 2; expected axis 1"),
    ],
)
def test_other_ways_to_enlarge_or_join_are_refused(model: nn.Module, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        lower(model, (1, 1, 8, 8))


def test_an_image_has_changed_where_one_pixel_in_1000_has() -> None:
    plain = torch.zeros(2, 2, 40, 40, dtype=torch.float64)
    plain[:, 0] = 1.0
    fixed = plain.clone()
    fixed[0, 1, 0, 0] = 2.0  # one of 1,600
    assert precision_of(plain, fixed, wrong_cuts=0.0).changed == 0
    fixed[0, 1, 0, 1] = 2.0
    found = precision_of(plain, fixed, wrong_cuts=0.0)
    assert (found.changed, found.ties_changed) == (1, 0)
    plain[0, 1, 0, :2] = 0.999  # now a tie each
    assert precision_of(plain, fixed, wrong_cuts=0.0).ties_changed == 1


def test_one_pixel_that_cannot_be_right_spoils_its_image() -> None:
    scores = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    scores[1, 2, 3, 3] = 1e9
    found = judged(scores, 0.0)
    assert bool((found[0] == 0).all())
    assert bool(found[1].isnan().all())
