import pytest
import torch
from torch import nn

from primia_flwr.models.layers.weight_standardisation import WSConv2d
from primia_flwr.privacy.clipping.convolution import (
    ConvolutionRule,
    StandardisedConvolutionRule,
)
from primia_flwr.privacy.clipping.record import Record

EPS = torch.finfo(torch.float32).eps


def test_allowance_by_hand() -> None:
    # A row of pixels 1, 2, 3 under a kernel of two: |(1, 2)| = sqrt 5 and |(2, 3)| = sqrt 13.
    # dy = (3, 4) and (0, -1) at the two positions: |dy| = 3, sqrt(16 + 1).
    rule = ConvolutionRule(nn.Conv2d(1, 2, (1, 2), bias=False))
    x = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3)
    dy = torch.tensor([[3.0, 4.0], [0.0, -1.0]]).view(1, 2, 1, 2)
    allowance = rule.allowance(Record(x, dy, dy, views=1))
    expected = (3 * 5**0.5 + 17**0.5 * 13**0.5) ** 2
    assert allowance.item() == pytest.approx(8 * 2**-23 * expected, rel=1e-6)


@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize("way", ["by_gram", "by_gradients"])
def test_rounding_stays_within_the_allowance_when_nearly_all_cancels(
    way: str, standardised: bool
) -> None:
    """Two views with opposite output gradients over nearly equal pixels."""
    torch.manual_seed(0)
    layer = (WSConv2d if standardised else nn.Conv2d)(64, 64, 3, padding=1, bias=False)
    first = torch.randn(1, 64, 4, 4).abs()
    x = torch.cat((first, first * (1 + 1e-4)))
    one = torch.randn(1, 64, 4, 4)
    dy = torch.cat((one, -one))
    rule = (StandardisedConvolutionRule if standardised else ConvolutionRule)(layer)
    with torch.no_grad():
        record = Record(x, layer(x), dy, views=2)
        found, allowance = getattr(rule, way)(record), rule.allowance(record)
        layer.double()
        x, dy = x.double(), dy.double()
        exact = getattr(rule, way)(Record(x, layer(x), dy, views=2))
    assert exact < 1e-2 * allowance / (8 * EPS)  # it does cancel
    assert (found - exact).abs() < allowance
    assert found + allowance > exact
