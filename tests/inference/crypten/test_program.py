"""Encrypted inference with stock CrypTen between two processes gives what PyTorch gives."""

import pytest
import torch
from torch import nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError, ServiceError
from primia_flwr.inference.crypten.program import describe, fold, run_data_owner, run_model_owner
from primia_flwr.models import build_model
from primia_flwr.models.layers.same_padding import PadSame
from tests.inference.crypten_parties import (
    Failed,
    ToyNet,
    classify,
    data_owner_task,
    first_party_task,
    model_owner_task,
    together,
    watched_task,
)
from tests.inference.links import linked

UNIT = 2.0**-16


def built(name="simpleconv", seed=1, channels=1, **options):
    cfg = ModelConfig(name=name, **options)
    model = build_model(cfg, outputs=3, channels=channels, seed=seed, first_weights=False)
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():  # as after training: statistics that folding must heed
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def plain(model, images):
    with torch.inference_mode():
        return model(images)


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_simpleconv_agrees_with_the_plain_model(pool):
    model, images = built(pool=pool), noise(1, 1, 32, 32)
    logits, nothing, dealt = classify(built(seed=2, pool=pool), model, images)
    assert logits.shape == (1, 3)
    assert (logits - plain(model, images)).abs().max() < 0.02
    assert nothing is None
    assert dealt > 100


def test_a_sequence_agrees_with_the_plain_model():
    options = {"name": "sequence", "channels": 3}
    model, images = built(**options), noise(1, 3, 16, 16)
    logits, *_ = classify(built(seed=2, **options), model, images)
    assert (logits - plain(model, images)).abs().max() < 0.02


def test_a_network_without_normalisation_agrees_with_the_plain_model():
    model, images = built(norm="none"), noise(1, 1, 32, 32)
    logits, *_ = classify(built(seed=2, norm="none"), model, images)
    assert (logits - plain(model, images)).abs().max() < 0.02


def test_residual_blocks_and_padded_pooling_in_colour_with_fewer_bits():
    torch.manual_seed(0)
    model, images = ToyNet(channels=3).eval(), noise(2, 3, 12, 10)
    logits, _, _ = classify(ToyNet(channels=3), model, images, precision_bits=12)
    assert (logits - plain(model, images)).abs().max() < 0.02


def test_relu_is_exact():
    values = torch.tensor([-3.5, -UNIT, 0.0, UNIT, 2.25, 1000.0]).reshape(1, 1, 2, 3)
    model = nn.Sequential(nn.ReLU())
    result, _, _ = classify(model, model, values)
    assert result.flatten().tolist() == [0.0, 0.0, 0.0, UNIT, 2.25, 1000.0]


def test_max_pooling_is_exact_with_ties_and_padding():
    values = torch.tensor([[0.0, 0.0, 3.0], [7.0, 7.0, 0.0], [0.0, 5.0, 6.0]]).reshape(1, 1, 3, 3)
    model = nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    result, _, _ = classify(model, model, values)
    assert result.flatten().tolist() == [7.0, 7.0, 7.0, 7.0]
    model = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, 1))
    result, _, _ = classify(model, model, values)
    assert result.flatten().tolist() == [7.0, 7.0, 7.0, 7.0]


def test_convolution_of_integers_is_off_by_one_unit_at_most():
    model = nn.Sequential(nn.Conv2d(2, 2, 3, stride=2, padding=1, groups=2))
    with torch.no_grad():
        model[0].weight.copy_(torch.arange(-9.0, 9.0).reshape(2, 1, 3, 3))
        model[0].bias.copy_(torch.tensor([10.0, -20.0]))
    images = torch.arange(50.0).reshape(1, 2, 5, 5)
    result, _, _ = classify(nn.Sequential(nn.Conv2d(2, 2, 3, 2, 1, groups=2)), model, images)
    assert (result - plain(model, images)).abs().max() <= UNIT


def test_no_generator_of_pytorch_is_used():
    torch.manual_seed(0)
    model, images = ToyNet().eval(), noise(1, 1, 8, 8)
    argument = (ToyNet(), images, {}), (model, tuple(images.shape), {})
    seen, _, _ = together((watched_task, model_owner_task), argument)
    assert (seen["logits"] - plain(model, images)).abs().max() < 0.02
    assert seen["default generator moved"] is False
    assert seen["draws of torch"] == []
    assert seen["generators before, during, after"] == [set(), {"Stream"}, set()]


def test_crypten_s_own_provider_gives_the_same():
    torch.manual_seed(0)
    model, images = ToyNet().eval(), noise(1, 1, 8, 8)
    arguments = (ToyNet(), images), (model, torch.zeros_like(images))
    logits, nothing, _ = together((first_party_task,) * 2, arguments)
    assert (logits - plain(model, images)).abs().max() < 0.02
    assert nothing is None


@pytest.mark.parametrize("change", ["precision", "architecture", "images"])
def test_parties_that_disagree_both_refuse(change):
    model, images = ToyNet(), noise(1, 1, 8, 8)
    own = (ToyNet(width=4) if change == "architecture" else ToyNet(), images, {})
    theirs = {
        "precision": (model, (1, 1, 8, 8), {"precision_bits": 12}),
        "architecture": (model, (1, 1, 8, 8), {}),
        "images": (model, (2, 1, 8, 8), {}),
    }
    first, second, dealer = together((data_owner_task, model_owner_task), (own, theirs[change]))
    for result in (first, second, dealer):
        assert isinstance(result, Failed)
        assert result.kind in ("ProtocolError", "ServiceError")
        assert "has another computation in mind" in result.message


def test_weights_are_no_part_of_what_is_agreed():
    one, two = fold(built(seed=1)), fold(built(seed=2))
    assert describe(one, (1, 1, 32, 32), 16) == describe(two, (1, 1, 32, 32), 16)
    assert describe(one, (1, 1, 32, 32), 16) != describe(one, (1, 1, 32, 32), 12)
    assert describe(one, (1, 1, 32, 32), 16) != describe(one, (2, 1, 32, 32), 16)
    assert describe(one, (1, 1, 32, 32), 16) != describe(
        fold(built(pool="max")), (1, 1, 32, 32), 16
    )


@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "vgg16", "simpleconv"])
def test_every_model_of_the_table_folds_to_what_it_was(name, pool):
    model, images = built(name, pool=pool), noise(1, 1, 32, 32)
    graph = fold(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in graph.modules())
    scale = plain(model, images).abs().max()
    assert (plain(graph, images) - plain(model, images)).abs().max() < 1e-3 * scale


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.Sigmoid(), "has no encrypted form"),
        (nn.MaxPool2d(2, padding=1), "has no encrypted form"),
        (nn.MaxPool2d(2, ceil_mode=True), "has no encrypted form"),
        (nn.AdaptiveAvgPool2d(2), "has no encrypted form"),
        (nn.Conv2d(1, 1, 3, padding="same"), "has no encrypted form"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "has no encrypted form"),
        (nn.GroupNorm(1, 1), "model[.]norm=group"),
    ],
)
def test_other_layers_are_refused_with_a_reason(layer, why):
    with pytest.raises(ConfigError, match=why):
        fold(nn.Sequential(layer))


def test_group_norm_is_refused():
    with pytest.raises(ConfigError, match=r"model\.norm=group"):
        fold(built(norm="group"))


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 8, 8),
        torch.zeros(1, 1, 8, 8, dtype=torch.int64),
        torch.full((1, 1, 2, 2), torch.nan),
    ],
    ids=["three sides", "integers", "not a number"],
)
def test_images_that_cannot_be_encrypted_are_refused_before_anything_is_sent(images):
    own, other = linked("data-owner", "model-owner")
    asks, dealer = linked("data-owner", "crypto-provider")
    with own, other, asks, dealer:
        with pytest.raises(ConfigError, match="expected finite floats"):
            run_data_owner(own, asks, ToyNet(), images)
        with pytest.raises(ServiceError, match="expected finite floats"):
            other.receive(1, at_most=1)


def test_roles_are_those_of_the_certificates():
    with_model, other = linked("data-owner", "model-owner")
    with with_model, other, pytest.raises(ServiceError, match="expected a crypto-provider"):
        run_data_owner(with_model, with_model, ToyNet(), noise(1, 1, 8, 8))
    with_data, other = linked("model-owner", "data-owner")
    with with_data, other, pytest.raises(ServiceError, match="expected a crypto-provider"):
        run_model_owner(with_data, with_data, ToyNet(), (1, 1, 8, 8))


class SixNet(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.features, self.classifier = features, nn.Linear(4, 3)

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


def test_relu6_and_same_padding_agree_with_the_plain_model():
    torch.manual_seed(0)

    def net():
        convolution = nn.Conv2d(1, 4, 3, 2)
        return SixNet(
            nn.Sequential(PadSame(3), convolution, nn.ReLU6(), nn.AdaptiveAvgPool2d(1))
        ).eval()

    model, images = net(), 20 * noise(1, 1, 8, 8)
    assert (model.features[:2](images) > 6).any()
    logits, *_ = classify(net(), model, images)
    assert (logits - plain(model, images)).abs().max() < 0.02
