"""A site refuses a model with numbers that no training makes, and takes every honest one."""

from __future__ import annotations

import time
from itertools import product

import pytest
import torch
from torch import nn

from primia_flwr.config.experiment.training import ModelConfig, TrainingConfig
from primia_flwr.config.rows import MODELS, TASKS
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.errors import ProtocolError
from primia_flwr.models.arrival import (
    DEFAULT_BOUNDS,
    ArrivalBounds,
    check_arrived,
    norm_layers,
    shut_share,
    spread,
)
from primia_flwr.models.registry import build_model
from primia_flwr.training.fit import fit
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.plan import LocalPlan
from primia_flwr.training.recipe import Recipe

BIG = DEFAULT_BOUNDS.max_value
ALL_MODELS = [
    (name, norm, False)
    for name, norm in product(MODELS, ("batch", "group", "none"))
    if norm in MODELS[name].norms
]
ALL_MODELS += [(name, "group", True) for name in MODELS if name != "unet3d"]


def _model(name: str = "simpleconv", norm: str = "group", ws: bool = False) -> nn.Module:
    cfg = ModelConfig(name=name, norm=norm, weight_standardisation=ws)
    return build_model(cfg, outputs=3, channels=_channels(name), seed=1)


def _channels(name: str) -> int:
    return 4 if name == "unet3d" else 1


def _images(count: int, side: int, *, masked: bool = False, channels: int = 1) -> LabelledImages:
    drawn = torch.Generator().manual_seed(0)
    shape = (count, channels, side, side)
    images = torch.randint(0, 256, shape, generator=drawn, dtype=torch.uint8)
    names = tuple(str(n) for n in range(count))
    labels = torch.arange(count) % 3
    if masked:
        labels = labels.to(torch.uint8)[:, None, None].expand(count, side, channels * side)
        labels = labels.contiguous()
    task = TASKS["segmentation" if masked else "classification"]
    return LabelledImages(images, labels, names, names, ("a", "b", "c"), task=task)


def _put(model: nn.Module, name: str, value: float) -> None:
    """Set the last entry of an array."""
    with torch.no_grad():
        model.state_dict()[name].view(-1)[-1] = value


@pytest.mark.parametrize(("name", "norm", "ws"), ALL_MODELS)
def test_first_weights_and_what_training_makes_of_them_pass(name: str, norm: str, ws: bool) -> None:
    model = _model(name, norm, ws)
    check_arrived(model)
    training = TrainingConfig(
        learning_rate=1e-2, schedule="constant", batch_size=2, threads=1, device="cpu"
    )
    steps = 30 if name == "simpleconv" else 3
    recipe = Recipe(training, Normalisation((0.5,), (0.25,)), seed=1)
    fit(
        model,
        _images(6, 32, masked=bool(MODELS[name].dense), channels=_channels(name)),
        None,
        recipe,
        LocalPlan(0, steps, max_batches=steps),
    )
    check_arrived(model)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_seventy_rounds_of_adam_on_the_server_pass(norm: str) -> None:
    """Its steps are the largest that the server's rules take: 0.1 an entry and round (FedAdam)."""
    model = _model(norm=norm)
    training = TrainingConfig(schedule="constant", batch_size=4, threads=1, device="cpu")
    recipe, images = Recipe(training, Normalisation((0.5,), (0.25,)), seed=1), _images(8, 16)
    first: dict[str, torch.Tensor] = {}
    second: dict[str, torch.Tensor] = {}
    for number in range(70):
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        fit(model, images, None, recipe, LocalPlan(2 * number, 140, max_batches=2))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                change = parameter - before[name]
                first[name] = 0.9 * first.get(name, 0.0) + 0.1 * change
                second[name] = 0.99 * second.get(name, 0.0) + 0.01 * change.square()
                step = 0.1 * first[name] / (second[name].sqrt() + 1e-3)
                parameter.copy_(before[name] + step)
        check_arrived(model)
    vectors = [p.detach() for n, p in model.named_parameters() if n.startswith("features")]
    # scales start at 1
    assert max(float(v.abs().max() - 1) for v in vectors if v.ndim == 1) > 0.5


@pytest.mark.parametrize(
    ("array", "bound"),
    [
        ("features.13.weight", DEFAULT_BOUNDS.max_scale),
        ("features.13.bias", DEFAULT_BOUNDS.max_bias),
        ("features.0.weight", BIG),
        ("classifier.weight", BIG),
        ("classifier.bias", BIG),
    ],
)
@pytest.mark.parametrize("norm", ["group", "none"])
def test_a_bound_is_allowed_and_the_next_number_is_not(norm: str, array: str, bound: float) -> None:
    above = float(torch.nextafter(torch.tensor(bound), torch.tensor(torch.inf)))
    for sign in (1, -1):
        model = _model(norm=norm)
        _put(model, array, sign * bound)
        check_arrived(model)
        _put(model, array, sign * above)
        with pytest.raises(ProtocolError, match=f"{array} has .*{bound:g}") as caught:
            check_arrived(model)
        assert "-" * (sign < 0) + f"{bound:g}" in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_no_array_may_have_nan_or_infinity(norm: str, value: float) -> None:
    names = [n for n, t in _model(norm=norm).state_dict().items() if t.is_floating_point()]
    for name in names:
        model = _model(norm=norm)
        _put(model, name, value)
        with pytest.raises(ProtocolError, match=name):
            check_arrived(model)


def test_running_statistics_are_bounded_apart_and_a_variance_is_not_negative() -> None:
    model = _model(norm="batch")
    _put(model, "features.1.running_mean", -1e9)
    _put(model, "features.1.running_var", 0.0)
    check_arrived(model)
    _put(model, "features.1.running_var", -1e-9)
    with pytest.raises(ProtocolError, match=r"features\.1\.running_var has -1e-09; .* from 0 "):
        check_arrived(model)
    _put(model, "features.1.running_var", 2e9)
    with pytest.raises(ProtocolError, match=r"features\.1\.running_var has 2e\+09"):
        check_arrived(model)


@pytest.mark.parametrize("norm", ["group", "none"])
def test_19_of_20_channels_of_a_layer_may_be_shut_and_not_one_more(norm: str) -> None:
    model = _model(norm=norm)
    layer = model.get_submodule("features.13")
    assert isinstance(layer.bias, torch.Tensor)
    with torch.no_grad():
        layer.bias[:243] = -4.0  # of 256
        layer.bias[243:] = -3.99  # at a scale of 1
        check_arrived(model)
        layer.bias[243] = -4.0
    with pytest.raises(ProtocolError, match=r"features\.13\.bias shuts 95\.3% of the channels"):
        check_arrived(model)


def test_a_scale_of_almost_nothing_shuts_too() -> None:
    """No bias is needed to keep a gradient from going on."""
    scale = torch.tensor([1.0, 1e-9, 0.0, -1.0])
    assert shut_share(scale, torch.tensor([0.0, -1e-8, 0.0, 3.0])) == 0.5
    model = _model()
    with torch.no_grad():
        model.get_submodule("features.13").weight[1:] = 1e-3  # type: ignore[index, operator]
    with pytest.raises(ProtocolError, match=r"features\.13\.weight has a .* of 1000 times the med"):
        check_arrived(model)


def test_spread_is_the_largest_over_the_median() -> None:
    assert spread(torch.tensor([-6.0, 2.0, 1.0])) == 3.0
    assert spread(torch.tensor([0.0, 0.0, 1.0])) == float("inf")


def test_the_trap_in_scale_and_bias_of_the_last_norm_layer_is_refused() -> None:
    """The published script's: every channel shut by its bias but one."""
    cases = product(("resnet18", "simpleconv"), ("group", "none"), (-1e4, -10.0))
    for name, norm, bias in cases:
        model = _model(name, norm)
        layer = list(norm_layers(model))[-1][1]
        with torch.no_grad():
            layer.weight.fill_(1.0)  # type: ignore[operator, union-attr]
            layer.bias.fill_(bias)  # type: ignore[operator, union-attr]
            layer.bias[3] = -2.5  # type: ignore[index, operator]
        with pytest.raises(ProtocolError, match="the model that arrived"):
            check_arrived(model)


def test_a_site_may_set_bounds_of_its_own() -> None:
    model = _model()
    _put(model, "features.13.bias", 0.5)
    check_arrived(model, ArrivalBounds(max_bias=0.5))
    with pytest.raises(ProtocolError, match=r"features\.13\.bias has 0\.5; .* to 0\.4"):
        check_arrived(model, ArrivalBounds(max_bias=0.4))


def test_layer_norm_is_a_norm_layer_and_one_without_scale_is_not() -> None:
    model = nn.Sequential(nn.LayerNorm(4), nn.GroupNorm(2, 4, affine=False), nn.LayerNorm(4))
    assert [name for name, _ in norm_layers(model)] == ["0", "2"]
    _put(model, "2.bias", -11.0)
    with pytest.raises(ProtocolError, match=r"2\.bias has -11"):
        check_arrived(model)


def test_it_takes_milliseconds() -> None:
    model = _model("resnet18", "batch")
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        check_arrived(model)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.2  # measured: 0.01
