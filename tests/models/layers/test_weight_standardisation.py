import pytest
import torch
from torch import nn
from torch.func import vjp

from primia_flwr.models.layers.weight_standardisation import WSConv2d, standardise


def test_by_hand() -> None:
    # mean 2, variance ((-1)^2 + 1^2 + 0 + 0) / 4 = 1/2, eps 1/2: sigma = 1.
    weight = torch.tensor([1.0, 3.0, 2.0, 2.0]).view(1, 1, 2, 2)
    result = standardise(weight, eps=0.5)
    assert result.sigma.tolist() == [1.0]
    assert result.kernel.flatten().tolist() == [-1.0, 1.0, 0.0, 0.0]
    # g = (4, 0, 0, 0): mean 1, mean(w_hat g) = -1, so g - 1 + w_hat = (2, 0, -1, -1).
    gradient = torch.tensor([4.0, 0.0, 0.0, 0.0]).view(1, 1, 2, 2)
    assert result.pull_back(gradient).flatten().tolist() == [2.0, 0.0, -1.0, -1.0]


@pytest.mark.parametrize("eps", [1e-6, 1.0])
def test_pull_back_is_what_autograd_says(eps: float) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 3, 2, 4, generator=generator, dtype=torch.float64)
    gradient = torch.randn(5, 3, 2, 4, generator=generator, dtype=torch.float64)
    _, pull = vjp(lambda w: standardise(w, eps=eps).kernel, weight)
    torch.testing.assert_close(standardise(weight, eps=eps).pull_back(gradient), pull(gradient)[0])


def test_a_scaled_kernel_by_hand_and_by_autograd() -> None:
    # The kernel of the first test times 3: so is what a gradient of it is worth to the raw one.
    weight = torch.tensor([1.0, 3.0, 2.0, 2.0]).view(1, 1, 2, 2)
    result = standardise(weight, eps=0.5, scale=3.0)
    assert result.used.flatten().tolist() == [-3.0, 3.0, 0.0, 0.0]
    gradient = torch.tensor([4.0, 0.0, 0.0, 0.0]).view(1, 1, 2, 2)
    assert result.pull_back(gradient).flatten().tolist() == [6.0, 0.0, -3.0, -3.0]
    _, pull = vjp(lambda w: standardise(w, eps=0.5, scale=3.0).used, weight)
    torch.testing.assert_close(result.pull_back(gradient), pull(gradient)[0])


def test_a_constant_kernel_becomes_nothing() -> None:
    assert standardise(torch.full((2, 1, 3, 3), 7.0)).kernel.abs().sum() == 0


def test_twin_keeps_geometry_and_parameters() -> None:
    layer = nn.Conv2d(4, 6, (3, 1), stride=2, padding=(1, 0), dilation=(2, 1), groups=2)
    twin = WSConv2d.like(layer)
    assert twin.weight is layer.weight
    assert twin.bias is layer.bias
    images = torch.rand(2, 4, 9, 9)
    with torch.no_grad():
        expected = layer._conv_forward(images, standardise(layer.weight).kernel, layer.bias)
        assert torch.equal(twin(images), expected)
    assert str(twin) == str(layer).replace("Conv2d", "WSConv2d")


def test_scale_of_the_raw_kernel_does_not_matter() -> None:
    layer = WSConv2d(3, 8, 3, bias=False)
    images = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        before = layer(images)
        layer.weight.mul_(50).add_(1)
        torch.testing.assert_close(layer(images), before, rtol=1e-3, atol=1e-3)
