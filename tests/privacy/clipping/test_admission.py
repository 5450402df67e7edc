import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.rows import MODELS
from primia_flwr.errors import ConfigError
from primia_flwr.models import build_model
from primia_flwr.privacy.clipping import build_engine
from primia_flwr.privacy.clipping.admission import (
    check_independence,
    check_model,
    refuse_mixup,
)
from tests.privacy.clipping.clipped_nets import batch, cross_entropy


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class BatchMean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=0)


def tied() -> nn.Module:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    return nn.Sequential(first, second)


def with_another_parameter() -> nn.Module:
    layer = nn.Linear(2, 2)
    layer.register_parameter("weight_g", nn.Parameter(torch.ones(2, 1)))  # as weight_norm does
    return layer


@pytest.mark.parametrize(
    ("norm", "standardised"),
    [("group", False), ("group", True), ("none", True), ("frozen", False)],
)
@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].clipped])
def test_models_without_batch_norm_are_let_in(name: str, norm: str, standardised: bool) -> None:
    if norm not in MODELS[name].norms:
        pytest.skip("it has no such norm")
    cfg = ModelConfig(name=name, norm=norm, weight_standardisation=standardised, weights="w.pth")
    check_model(build_model(cfg, outputs=3, channels=1, seed=0, first_weights=False))


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"scattering", "unet3d"}))
def test_batch_norm_is_refused_with_reason_and_replacement(name: str) -> None:
    model = build_model(ModelConfig(name=name), outputs=3, channels=1, seed=0)
    with pytest.raises(
        ConfigError,
        match=r"layer .+ \(BatchNorm2d\) normalises each .*model\.norm=group.*model\.norm=none",
    ):
        check_model(model)


def test_a_model_that_says_so_cannot_be_clipped() -> None:
    (name,) = [name for name in MODELS if not MODELS[name].clipped]
    model = build_model(ModelConfig(name=name, norm="group"), outputs=3, channels=4, seed=0)
    with pytest.raises(ConfigError, match=r"\(Conv3d\) has trainable parameters that no engine"):
        check_model(model)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.SyncBatchNorm(2), r"layer the model itself \(SyncBatchNorm\) normalises"),
        (nn.InstanceNorm2d(2, track_running_stats=True), "keeps a buffer"),
        (nn.ReLU(inplace=True), "set inplace=False"),
        (nn.Sequential(Scale()), r"layer 0 \(Scale\) has trainable parameters that no engine"),
        (nn.Conv1d(1, 1, 1), "Conv1d.*expected only Conv2d, WSConv2d, Linear, GroupNorm"),
        (nn.LayerNorm(3), "LayerNorm"),
        (with_another_parameter(), "has trainable parameters"),
        (parametrizations.weight_norm(nn.Linear(2, 2)), "has trainable parameters"),
        (tied(), r"layer 1 \(Linear\) shares a parameter with layer 0 \(Linear\)"),
        (nn.Conv2d(1, 1, 3, padding="same"), "padding='same'"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "padding_mode='reflect'"),
        (nn.ReLU(), "no trainable parameter"),
        (nn.Linear(2, 2).requires_grad_(False), "no trainable parameter"),
    ],
)
def test_what_cannot_be_clipped_is_refused_by_name(model: nn.Module, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_model(model)


def test_frozen_layers_of_other_kinds_are_let_in() -> None:
    check_model(nn.Sequential(Scale().requires_grad_(False), nn.Linear(2, 2)))


def test_images_that_meet_are_found() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), BatchMean(), nn.Flatten(), nn.Linear(243, 3)).double()
    images, targets = batch(2)
    with pytest.raises(ConfigError, match="depends on the other images of the batch"):
        build_engine("ghost", model, cross_entropy, clip_norm=1.0).clipped_sum(images, targets)
    alone = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(243, 3)).double()
    before = torch.get_rng_state()
    check_independence(alone, images)
    assert torch.equal(before, torch.get_rng_state())


def test_a_layer_that_is_used_twice_is_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x.flatten(1)))  # type: ignore[no-any-return]

    engine = build_engine("ghost", Twice(), cross_entropy, clip_norm=1.0)
    with pytest.raises(ConfigError, match="Linear is used twice"):
        engine.clipped_sum(torch.rand(2, 3), torch.tensor([0, 1]))
    assert all(p.requires_grad for p in engine.parameters)


def test_a_layer_that_sees_more_rows_than_images_is_refused() -> None:
    class Crops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(torch.cat((x, -x))).view(2, -1, 3).mean(dim=0)  # type: ignore[no-any-return]

    engine = build_engine("ghost", Crops(), cross_entropy, clip_norm=1.0, views=2)
    with pytest.raises(ConfigError, match="a Linear sees 4 rows of 2 images"):
        engine.clipped_sum(torch.rand(2, 3), torch.tensor([0, 1]))


def test_a_linear_layer_over_sequences_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Flatten())
    engine = build_engine("ghost", model, cross_entropy, clip_norm=1.0)
    with pytest.raises(ConfigError, match=r"Linear layer has an input \(2, 5, 3\)"):
        engine.clipped_sum(torch.rand(2, 5, 3), torch.tensor([0, 1]))


def test_mixup_is_refused() -> None:
    refuse_mixup(0.0)
    with pytest.raises(ConfigError, match=r"data\.mixup\.probability=0\.5.*number of views"):
        refuse_mixup(0.5)
