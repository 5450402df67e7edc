"""LPIPS and Inception's features from weights in a file: here random ones of the right shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from primia_flwr.attacks.inversion.scoring.given_networks import InceptionFeatures, lpips_of
from primia_flwr.compat import torchvision
from primia_flwr.errors import ConfigError

# isort: split
from torchmetrics.functional.image.lpips import _LPIPS


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    torch.manual_seed(0)
    state = torchvision.models.alexnet(weights=None).state_dict()
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save(state, path)
    return path, state


def test_lpips_by_its_definition(alexnet: tuple[Path, dict[str, Tensor]]) -> None:
    # Zhang et al. 2018, eq. 1: sum over layers of the mean over pixels of w (a/|a| - b/|b|)^2.
    path, state = alexnet
    a, b = torch.rand(1, 64, 64), torch.rand(1, 64, 64)
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)

    def layers(image: Tensor) -> list[Tensor]:
        x = (2 * image.expand(3, -1, -1)[None] - 1 - shift) / scale
        found = []
        for index, stride, padding in ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)):
            if index in (3, 6):
                x = functional.max_pool2d(x, 3, 2)
            weight, bias = state[f"features.{index}.weight"], state[f"features.{index}.bias"]
            x = functional.conv2d(x, weight, bias, stride=stride, padding=padding).relu()
            found.append(x)
        return found

    heads = _LPIPS(net="alex", pnet_rand=True).lins
    expected = 0.0
    for one, other, head in zip(layers(a), layers(b), heads, strict=True):
        unit = [t / (t.square().sum(dim=1, keepdim=True) + 1e-8).sqrt() for t in (one, other)]
        weights = head.model[-1].weight.view(1, -1, 1, 1)
        expected += float(((unit[0] - unit[1]).square() * weights).sum(dim=1).mean())
    measure = lpips_of(path, image_size=64)
    assert measure(a, b) == pytest.approx(expected, rel=1e-4)
    assert measure(a, b) > 0
    assert measure(a, a) == 0


def test_weights_of_another_network_are_refused(
    alexnet: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    path, state = alexnet
    with pytest.raises(ConfigError, match=r"lpips=.*gone\.pth; no such file"):
        lpips_of(tmp_path / "gone.pth", image_size=64)
    with pytest.raises(ConfigError, match=r"inception=.*does not fit.*torchvision's inception_v3"):
        InceptionFeatures(path)
    other = {**state, "features.0.weight": torch.zeros(64, 1, 11, 11)}
    save_file(other, tmp_path / "grey.safetensors")
    with pytest.raises(ConfigError, match=r"lpips=.*does not fit at features\.0\.weight"):
        lpips_of(tmp_path / "grey.safetensors", image_size=64)


def test_lpips_takes_images_of_31_pixels_and_says_so_before_the_search(
    alexnet: tuple[Path, dict[str, Tensor]],
) -> None:
    path, _ = alexnet
    image = torch.rand(1, 31, 31)
    assert lpips_of(path, image_size=31)(image, image) == 0
    with pytest.raises(ConfigError, match=r"for images of 30 pixels; expected .* 31 pixels"):
        lpips_of(path, image_size=30)


def test_a_truncated_file_is_named(alexnet: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    torn = tmp_path / "torn.pth"
    torn.write_bytes(alexnet[0].read_bytes()[:100_000])
    with pytest.raises(ConfigError, match=r"lpips=.*torn\.pth cannot be read"):
        lpips_of(torn, image_size=64)


def test_inceptions_pooled_features_are_what_its_classifier_gets(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = torchvision.models.inception_v3(
        weights=None, aux_logits=True, transform_input=False, init_weights=False
    ).eval()
    path = tmp_path / "inception.safetensors"
    save_file(network.state_dict(), path)
    images = torch.rand(2, 1, 299, 299)
    found = InceptionFeatures(path)(images)
    assert found.shape == (2, 2048)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    colour = (images.expand(-1, 3, -1, -1) - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        logits = network.fc(found)
        assert torch.allclose(logits, network(colour), atol=1e-5)
    assert not torch.equal(found[0], found[1])
