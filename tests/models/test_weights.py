import os
import pickle
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from primia_flwr.compat import torchvision
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError
from primia_flwr.models import build_model
from primia_flwr.models.weights import adapt_channels, read_state


def _simple(channels: int, classes: int = 2, **values: str) -> nn.Module:
    cfg = ModelConfig(name="simpleconv", **values)  # type: ignore[arg-type]
    return build_model(cfg, outputs=classes, channels=channels, seed=3)


def _save(state: dict[str, Tensor], path: Path) -> str:
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    return str(path)


def test_sums_the_kernels_by_hand() -> None:
    kernel = torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1, 1)
    assert adapt_channels(kernel, channels=1).flatten().tolist() == [7.0]
    assert adapt_channels(kernel, channels=3) is kernel
    thirds = adapt_channels(torch.full((1, 1, 1, 1), 6.0), channels=3)
    assert thirds.flatten().tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_grey_model_from_colour_weights_sees_a_grey_image_as_the_colour_model_did(
    suffix: str, tmp_path: Path
) -> None:
    colour = _simple(3).eval()
    path = _save(colour.state_dict(), tmp_path / f"colour{suffix}")
    grey = _simple(1, weights=path).eval()
    image = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(grey(image), colour(image.repeat(1, 3, 1, 1)))


def test_classifier_of_another_size_starts_fresh(tmp_path: Path) -> None:
    source = _simple(1, classes=7)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1.0)
    path = _save(source.state_dict(), tmp_path / "seven.safetensors")
    loaded, fresh = _simple(1, classes=3, weights=path).state_dict(), _simple(1, 3).state_dict()
    assert torch.equal(loaded["classifier.weight"], fresh["classifier.weight"])
    assert torch.equal(loaded["features.0.weight"], source.state_dict()["features.0.weight"])


def test_same_size_classifier_is_loaded(tmp_path: Path) -> None:
    source = _simple(1)
    with torch.no_grad():
        source.get_parameter("classifier.bias").fill_(5.0)
    path = _save(source.state_dict(), tmp_path / "same.safetensors")
    assert _simple(1, weights=path).get_parameter("classifier.bias").tolist() == [5.0, 5.0]


def test_imagenet_weights_go_through_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchvision would download, made here: same names, 3 channels, 1000 classes."""
    stock = torchvision.models.resnet18()
    weights = torchvision.models.ResNet18_Weights.DEFAULT
    asked: dict[str, object] = {}

    def state(self: object, **options: object) -> dict[str, Tensor]:
        asked.update(options, weights=self)
        return dict(stock.state_dict())

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", state)
    model = build_model(ModelConfig(weights="imagenet"), outputs=3, channels=1, seed=0)
    assert asked["weights"] is weights
    assert asked["check_hash"] is True
    own = model.state_dict()
    assert torch.equal(own["layer4.1.conv2.weight"], stock.state_dict()["layer4.1.conv2.weight"])
    torch.testing.assert_close(own["conv1.weight"], stock.conv1.weight.detach().sum(1, True))
    assert own["fc.weight"].shape == (3, 512)


def test_vgg_takes_torchvisions_convolutions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with torch.device("meta"):
        names = torchvision.models.vgg16_bn().state_dict()
    state = {
        name: torch.ones(value.shape) if name.startswith("features.") else torch.zeros(1)
        for name, value in names.items()
    }
    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", lambda *a, **k: state)
    model = build_model(
        ModelConfig(name="vgg16", weights="imagenet"), outputs=2, channels=3, seed=0
    )
    assert float(model.get_parameter("features.40.weight").detach().min()) == 1.0


def test_offline_machine_gets_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **options: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", offline)
    with pytest.raises(ConfigError, match=r"imagenet cannot be downloaded.*not known.*give a file"):
        build_model(ModelConfig(weights="imagenet"), outputs=2, channels=1)


def test_a_site_that_receives_weights_opens_nothing() -> None:
    cfg = ModelConfig(name="simpleconv", weights="/nowhere/at-all.safetensors")
    build_model(cfg, outputs=2, channels=1, first_weights=False)
    with pytest.raises(ConfigError, match="no such file"):
        build_model(cfg, outputs=2, channels=1)


def test_pickles_that_execute_are_refused_unexecuted(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    path = tmp_path / "bomb.pth"
    path.write_bytes(pickle.dumps({"features.0.weight": Bomb()}, protocol=2))
    with pytest.raises(ConfigError, match=r"bomb\.pth cannot be read"):
        _simple(1, weights=str(path))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x80\x02"])
def test_damaged_files_are_named(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"damaged{suffix} cannot be read"):
        _simple(1, weights=str(path))


def test_something_else_than_a_state_dict_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.pth"
    torch.save([1, 2], path)
    with pytest.raises(ConfigError, match="no plain state dict"):
        _simple(1, weights=str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("features.4.weight"), r"has no 'features\.4\.weight'.*1 missing"),
        (lambda s: s.update(odd=torch.ones(1)), "unknown 'odd'"),
        (
            lambda s: s.update({"features.4.weight": torch.ones(1)}),
            r"features\.4\.weight.*\(1,\).*\(64, 32, 3, 3\)",
        ),
    ],
)
def test_weights_of_another_model_are_refused(change, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    state = dict(_simple(1).state_dict())
    change(state)
    path = _save(state, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match=message):
        _simple(1, weights=path)


def test_a_file_of_another_kind_is_refused_without_advice_to_load_it_anyway(tmp_path: Path) -> None:
    page = tmp_path / "readme.md"
    page.write_text("# weights\n")
    with pytest.raises(ConfigError, match="no weights file, or one that holds more") as error:
        read_state(page)
    assert "weights_only" not in str(error.value)
