import pytest
import torch
from torch import nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.rows import MODELS
from primia_flwr.errors import ConfigError
from primia_flwr.models import build_model, check_image_size
from primia_flwr.models.layers.common import freeze
from primia_flwr.models.layers.weight_standardisation import WSConv2d

# By hand for one input channel and three classes, batch norm. ResNet-18 of torchvision has
# 11,689,512: minus its head 512*1000+1000, minus two stem channels 2*64*49, plus 512*3+3.
PARAMETERS = {
    "resnet18": 11_689_512 - 513_000 - 2 * 64 * 49 + 1_539,
    "resnet34": 21_797_672 - 513_000 - 2 * 64 * 49 + 1_539,
    "resnet50": 25_557_032 - 2_049_000 - 2 * 64 * 49 + 2048 * 3 + 3,
    # 13 convolutions with bias (14,714,688 for 3 channels), two numbers a norm channel (4,224
    # channels), head.
    "vgg16": 14_714_688 - 2 * 64 * 9 + 2 * 4224 + 512 * 3 + 3,
    # 9*(1*32 + 32*64 + 64*128 + 128*256) + 2*480 + 256*3 + 3
    "simpleconv": 9 * 43_040 + 960 + 771,
    # the published 4,652,008, of a grey image and 3 classes
    "efficientnet_lite0": 4_652_008 - 2 * 32 * 9 - 1281 * 1000 + 1281 * 3,
    # torchvision's 7,978,856 and 3,504,872, of a grey image and 3 classes
    "densenet121": 7_978_856 - 2 * 64 * 49 - 1025 * 1000 + 1025 * 3,
    "mobilenet_v2": 3_504_872 - 2 * 32 * 9 - 1281 * 1000 + 1281 * 3,
    # on the way down, on the way up, two numbers a norm channel, head
    "unet": 9 * (16 + 16**2 + 16 * 32 + 32**2 + 32 * 64 + 64**2 + 64 * 128 + 128**2)
    + 9 * (192 * 64 + 64**2 + 96 * 32 + 32**2 + 48 * 16 + 16**2)
    + 4 * (16 + 32 + 64 + 128 + 64 + 32 + 16)
    + 16 * 3
    + 3,
    # the same way down and up, once shorter and half as wide
    "unet_small": 9 * (8 + 8**2 + 8 * 16 + 16**2 + 16 * 32 + 32**2)
    + 9 * (48 * 16 + 16**2 + 24 * 8 + 8**2)
    + 4 * (8 + 16 + 32 + 16 + 8)
    + 8 * 3
    + 3,
    # resnet18 without its classifier; on the way up, two numbers a norm channel, head
    "unet_resnet18": 11_689_512
    - 513_000
    - 2 * 64 * 49
    + 9 * (768 * 256 + 256**2 + 384 * 128 + 128**2 + 192 * 64 + 64**2 + 128 * 32 + 32**2)
    + 9 * (32 * 16 + 16**2)
    + 4 * (256 + 128 + 64 + 32 + 16)
    + 16 * 3
    + 3,
    # kernels of 3 x 3 x 3, however many the slices are: down, up, norms, head
    "unet3d": 27 * (8 + 8**2 + 8 * 16 + 16**2 + 16 * 32 + 32**2)
    + 27 * (48 * 16 + 16**2 + 24 * 8 + 8**2)
    + 4 * (8 + 16 + 32 + 16 + 8)
    + 8 * 3
    + 3,
    # three convolutions, two numbers a norm channel, head; however many the frames are
    "sequence": 9 * (32 + 32 * 64 + 64**2) + 2 * 160 + 64 * 3 + 3,
    # 1 + 2*8 + 8*8 maps of 8 x 8, a linear layer
    "scattering": 81 * 64 * 3 + 3,
}


@pytest.mark.parametrize("name", MODELS)
def test_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        channels = 4 if name == "unet3d" else 1
        model = build_model(ModelConfig(name=name), outputs=3, channels=channels)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize(("norm", "channels"), [("batch", 3), ("group", 1), ("none", 1)])
@pytest.mark.parametrize("name", MODELS)
def test_maps_images_to_logits_and_gives_every_parameter_a_gradient(
    name: str, norm: str, channels: int, pool: str
) -> None:
    if norm not in MODELS[name].norms:
        pytest.skip("it has no such norm")
    if name == "unet3d":
        channels = 4  # slices, which come out side by side
    cfg = ModelConfig(name=name, norm=norm, norm_groups=8, pool=pool)
    model = build_model(cfg, outputs=3, channels=channels, seed=0)
    logits = model(torch.rand(2, channels, 64, 64))
    width = 256 if name == "unet3d" else 64
    assert logits.shape == ((2, 3, 64, width) if MODELS[name].dense else (2, 3))
    (logits - 1).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("norm", ["group", "none"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16", "simpleconv"])
def test_models_for_private_training_have_no_batch_norm_and_change_nothing_in_place(
    name: str, norm: str
) -> None:
    cfg = ModelConfig(name=name, norm=norm)
    with torch.device("meta"):
        modules = list(build_model(cfg, outputs=2, channels=1).modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in modules)
    assert not any(isinstance(module, nn.ReLU) and module.inplace for module in modules)


@pytest.mark.parametrize("norm", ["group", "none"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16", "simpleconv"])
def test_full_backward_hooks_work_without_batch_norm(name: str, norm: str) -> None:
    """Per-sample gradients hang on such hooks; in-place changes after them are errors."""
    cfg = ModelConfig(name=name, norm=norm)
    model = build_model(cfg, outputs=2, channels=1, seed=0)
    seen: list[int] = []

    def count(module: nn.Module, inputs: object, outputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(len(outputs[0]))

    for module in model.modules():
        if next(module.children(), None) is None and next(module.parameters(), None) is not None:
            module.register_full_backward_hook(count)
    model(torch.rand(2, 1, 32, 32, requires_grad=True)).sum().backward()
    assert seen
    assert set(seen) == {2}


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_out_of_place_blocks_compute_what_torchvisions_do(name: str) -> None:
    cfg = ModelConfig(name=name, norm="group")
    ours = build_model(cfg, outputs=2, channels=3, seed=1).eval()
    from primia_flwr.models.layers import resnet

    stock = resnet._resnet.ResNet(
        resnet.BLOCKS["basic" if name == "resnet18" else "bottleneck", "batch"],
        [2, 2, 2, 2] if name == "resnet18" else [3, 4, 6, 3],
        2,
        norm_layer=lambda width: nn.GroupNorm(32, width),
    ).eval()
    stock.load_state_dict(ours.state_dict())
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(ours(images), stock(images))


@pytest.mark.parametrize("norm", ["group", "none"])
def test_an_image_is_independent_of_others_without_batch_norm(norm: str) -> None:
    cfg = ModelConfig(name="simpleconv", norm=norm)
    model = build_model(cfg, outputs=2, channels=1, seed=0).train()
    images = torch.rand(4, 1, 32, 32)
    torch.testing.assert_close(model(images)[:1], model(images[:1]))


def test_seed_fixes_the_weights_and_leaves_the_global_generator_alone() -> None:
    cfg = ModelConfig(name="simpleconv")
    before = torch.get_rng_state()
    first = build_model(cfg, outputs=2, channels=1, seed=5).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    second = build_model(cfg, outputs=2, channels=1, seed=5).state_dict()
    other = build_model(cfg, outputs=2, channels=1, seed=6).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("scattering", "unet3d")])
def test_weight_standardisation_replaces_each_convolution_and_no_parameter(name: str) -> None:
    plain = build_model(ModelConfig(name=name, norm="group"), outputs=3, channels=1, seed=0)
    cfg = ModelConfig(name=name, norm="group", weight_standardisation=True)
    model = build_model(cfg, outputs=3, channels=1, seed=0)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert {type(m) for m in convolutions} == {WSConv2d}
    state, expected = model.state_dict(), plain.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in state)
    images = torch.rand(2, 1, 64, 64)
    assert not torch.allclose(model(images), plain(images))


def test_max_head_takes_the_maximum() -> None:
    model = build_model(ModelConfig(pool="max"), outputs=2, channels=1, seed=0)
    maps = torch.tensor([[[[1.0, 7.0], [3.0, -2.0]]]])
    pooled = model.get_submodule("avgpool")(maps)
    assert pooled.tolist() == [[[[7.0]]]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "resnet19"}, "model.name=resnet19; expected one of .*did you mean resnet1"),
        ({"norm": "layer"}, "model.norm=layer"),
        ({"pool": "sum"}, "model.pool=sum"),
        ({"norm_groups": 5}, "model.norm_groups=5"),
        ({"weight_standardisation": True}, r"norm=batch; .*set model\.norm=group or none"),
        ({"weights": "weights.pkl"}, "model.weights=weights.pkl.*safetensors"),
        ({"weights": "imagenet", "name": "simpleconv"}, "model.name=simpleconv"),
        ({"weights": "imagenet", "norm": "group"}, "set model.norm=batch"),
        ({"weights": "imagenet", "norm": "none"}, "norm=none; ImageNet .*set model.norm=batch"),
    ],
)
def test_model_config_refuses(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**values)  # type: ignore[arg-type]


def test_build_refuses_two_channels_and_no_output() -> None:
    with pytest.raises(ConfigError, match=r"data\.channels=2"):
        build_model(ModelConfig(), outputs=2, channels=2)
    with pytest.raises(ConfigError, match="number of outputs=0"):
        build_model(ModelConfig(), outputs=0, channels=1)


def test_image_size_must_survive_the_poolings() -> None:
    check_image_size(ModelConfig(name="vgg16"), 32)
    with pytest.raises(ConfigError, match=r"data\.image_size=31.*vgg16.*32"):
        check_image_size(ModelConfig(name="vgg16"), 31)


@pytest.mark.parametrize("name", MODELS)
def test_smallest_image_size_works_and_is_in_the_table(name: str) -> None:
    channels = 4 if name == "unet3d" else 1
    model = build_model(ModelConfig(name=name), outputs=2, channels=channels, seed=0).eval()
    side = MODELS[name].min_image_size
    shape = (1, 2, side, channels * side) if MODELS[name].dense else (1, 2)
    assert model(torch.rand(1, channels, side, side)).shape == shape


@pytest.mark.parametrize("norm", ["group", "none"])
def test_norms_after_frozen_layers_get_the_gradients_that_they_get_among_trained_ones(
    norm: str,
) -> None:
    """Channels last: PyTorch's own backward would end the process."""
    cfg = ModelConfig(name="resnet18", norm=norm, norm_groups=8)
    gradients = []
    for trainable in ("all", "norm"):
        model = build_model(cfg, outputs=3, channels=1, seed=0)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        freeze(model, trainable, head="fc")
        images = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        model(images.to(memory_format=torch.channels_last)).square().sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    everything, norms = gradients
    assert set(norms) == {n for n in everything if "bn" in n or "downsample.1" in n or "fc" in n}
    for name, gradient in norms.items():
        torch.testing.assert_close(gradient, everything[name], rtol=1e-4, atol=1e-5)
