"""Every engine gives the sum that torch.func's per-unit gradients give, and each other's."""

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError
from primia_flwr.models import build_model
from primia_flwr.models.architectures.unet import UNet
from primia_flwr.privacy.clipping import ENGINES, build_engine
from primia_flwr.privacy.clipping.convolution import ConvolutionRule
from primia_flwr.privacy.clipping.opacus_reference import OpacusGhostEngine
from primia_flwr.tasks.masks.loss import unit_losses
from tests.privacy.clipping.clipped_nets import (
    batch,
    clipped,
    cross_entropy,
    flat,
    norm_free_net,
    odd_net,
    unit_gradients,
)

EXACT = {"rtol": 1e-9, "atol": 1e-11}  # float64


@pytest.fixture(autouse=True)
def _quiet_opacus() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        yield


@pytest.fixture(params=["cheaper", "gram", "gradients"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Force the way to the norms of kernels, where there is a choice."""
    way: str = request.param
    if way != "cheaper":
        monkeypatch.setattr(
            ConvolutionRule,
            "gram_is_cheaper",
            lambda rule, record: way == "gram" and rule._layer.groups == 1,
        )
    return way


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("standardised", [False, True])
def test_ghost_is_torch_func(standardised: bool, views: int, way: str) -> None:
    model = odd_net(standardised=standardised)
    images, targets = batch(4 * views)
    gradients = unit_gradients(model, images, targets, views)
    norms = gradients.norm(dim=1)
    clip_norm = float(norms.median())  # some are below, some above
    assert norms.min() < clip_norm < norms.max()
    engine = build_engine("ghost", model, cross_entropy, clip_norm=clip_norm, views=views)
    found = flat(engine.clipped_sum(images, targets))
    torch.testing.assert_close(found, clipped(gradients, clip_norm), **EXACT)


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize(("temporal", "norm"), [("mean", "group"), ("conv", "none")])
@pytest.mark.parametrize("name", ["ghost", "loop", "opacus"])
def test_frames_of_a_sequence_are_of_one_unit(
    name: str, temporal: str, norm: str, views: int
) -> None:
    if name == "opacus" and norm == "none":
        pytest.skip("opacus knows no standardised kernel")
    cfg = ModelConfig(name="sequence", temporal=temporal, norm=norm)
    model = build_model(cfg, outputs=3, channels=3, seed=0).double()
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(4 * views, 3, 16, 16, generator=generator, dtype=torch.float64)
    targets = torch.arange(4 * views) % 3
    gradients = unit_gradients(model, images, targets, views)
    clip_norm = float(gradients.norm(dim=1).median())
    engine = build_engine(name, model, cross_entropy, clip_norm=clip_norm, views=views)
    found = flat(engine.clipped_sum(images, targets))
    torch.testing.assert_close(found, clipped(gradients, clip_norm), **EXACT)


class _Unsaid(nn.Module):
    """Frames folded into the batch by a layer that does not say so."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 3, 4)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, T, 4, 4) to (N, 3)."""
        rows = self.layer(images.reshape(-1, 1, 4, 4))
        return rows.reshape(len(images), -1, 3).mean(dim=1)


def test_a_layer_that_folds_frames_must_say_so() -> None:
    engine = build_engine("ghost", _Unsaid(), cross_entropy, clip_norm=1.0)
    with pytest.raises(ConfigError, match="a Conv2d sees 6 rows of 2 images; expected 2"):
        engine.clipped_sum(torch.rand(2, 3, 4, 4), torch.tensor([0, 1]))


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize("name", ["loop", "opacus"])
def test_the_others_are_torch_func(name: str, standardised: bool, views: int) -> None:
    model = odd_net(standardised=standardised)
    images, targets = batch(4 * views)
    gradients = unit_gradients(model, images, targets, views)
    clip_norm = float(gradients.norm(dim=1).median())
    engine = build_engine(name, model, cross_entropy, clip_norm=clip_norm, views=views)
    found = flat(engine.clipped_sum(images, targets))
    torch.testing.assert_close(found, clipped(gradients, clip_norm), **EXACT)


@pytest.mark.parametrize(
    ("name", "norm", "standardised"),
    [
        ("resnet18", "group", False),
        ("resnet18", "group", True),
        ("simpleconv", "group", True),
        ("efficientnet_lite0", "frozen", False),
        *((name, "none", True) for name in ("resnet18", "resnet50", "vgg16", "simpleconv")),
    ],
)
def test_engines_agree_on_the_models_of_the_table(name: str, norm: str, standardised: bool) -> None:
    """In float64, with channels_last: gradient for gradient, of two units each."""
    cfg = ModelConfig(name=name, norm=norm, weight_standardisation=standardised, weights="w.pth")
    model = build_model(cfg, outputs=3, channels=1, seed=0, first_weights=False).double()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    views = 1 if name in ("resnet50", "vgg16") else 2  # of the largest, Opacus takes gigabytes
    images, targets = batch(2 * views, size=32, channels=1)
    images = images.to(memory_format=torch.channels_last)
    how = {"clip_norm": 20.0, "views": views}
    engines = {e: build_engine(e, model, cross_entropy, **how) for e in ENGINES}
    sums = {e: engine.clipped_sum(images, targets) for e, engine in engines.items()}
    for ghost, loop, opacus in zip(*sums.values(), strict=True):
        torch.testing.assert_close(ghost, opacus, **EXACT)
        torch.testing.assert_close(loop, opacus, **EXACT)


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("clip", ["median", "all", "none"])
def test_every_engine_is_torch_func_without_normalisation(clip: str, views: int, way: str) -> None:
    model = norm_free_net()
    images, targets = batch(4 * views)
    gradients = unit_gradients(model, images, targets, views)
    norms = gradients.norm(dim=1)
    clip_norm = {"median": norms.median(), "all": norms.min() / 10, "none": norms.max() * 10}[clip]
    expected = clipped(gradients, float(clip_norm))
    for name in ENGINES:
        engine = build_engine(name, model, cross_entropy, clip_norm=float(clip_norm), views=views)
        found = flat(engine.clipped_sum(images, targets))
        torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("name", ["resnet18", "simpleconv"])
@pytest.mark.parametrize(
    ("trainable", "norm"),
    [("norm", "none"), ("head", "none"), ("lora", "group"), ("lora", "frozen")],
)
def test_engines_agree_where_only_a_part_is_trained(name: str, trainable: str, norm: str) -> None:
    cfg = ModelConfig(name=name, norm=norm, trainable=trainable, weights="a.pth")
    model = build_model(cfg, outputs=3, channels=1, seed=0, first_weights=False).double()
    images, targets = batch(4, size=32, channels=1)
    engines = {e: build_engine(e, model, cross_entropy, clip_norm=0.1) for e in ENGINES}
    ghost, loop, opacus = (flat(e.clipped_sum(images, targets)) for e in engines.values())
    torch.testing.assert_close(ghost, opacus, **EXACT)
    torch.testing.assert_close(loop, opacus, **EXACT)


def test_engines_agree_in_float32_but_for_rounding() -> None:
    """On smooth activations; ReLU and max-pool turn a rounding into a jump now and then."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.Softplus(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.GroupNorm(4, 32),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 3),
    )
    images, targets = batch(6, size=12)
    reference = flat(
        build_engine("loop", model.double(), cross_entropy, clip_norm=0.5).clipped_sum(
            images, targets
        )
    )
    model.float()
    for name in ENGINES:
        engine = build_engine(name, model, cross_entropy, clip_norm=0.5)
        found = flat(engine.clipped_sum(images.float(), targets)).double()
        assert float((found - reference).norm()) < 2e-5 * float(reference.norm()), name


def test_opacus_ghost_of_the_benchmark_agrees_too() -> None:
    model = odd_net()
    images, targets = batch(4)
    expected = clipped(unit_gradients(model, images, targets, 1), 0.5)
    found = OpacusGhostEngine(model, cross_entropy, clip_norm=0.5).clipped_sum(images, targets)
    torch.testing.assert_close(flat(found), expected, rtol=1e-4, atol=1e-5)  # it adds 1e-6 to norms


@pytest.mark.parametrize("name", ENGINES)
def test_no_contribution_is_longer_than_the_norm(name: str) -> None:
    model = odd_net()
    images, targets = batch(3)
    engine = build_engine(name, model, cross_entropy, clip_norm=0.01)
    for unit in range(3):
        one = flat(engine.clipped_sum(images[unit : unit + 1], targets[unit : unit + 1]))
        assert float(one.norm()) == pytest.approx(0.01, rel=1e-6)
        assert float(one.norm()) <= 0.01 * (1 + 1e-12)


@pytest.mark.parametrize("name", ENGINES)
def test_parts_of_a_batch_add_up_to_the_batch(name: str) -> None:
    model = odd_net(standardised=True)
    images, targets = batch(10)
    engine = build_engine(name, model, cross_entropy, clip_norm=0.3, views=2)
    whole = flat(engine.clipped_sum(images, targets))
    parts = [flat(engine.clipped_sum(images[i : i + 4], targets[i : i + 4])) for i in (0, 4, 8)]
    torch.testing.assert_close(torch.stack(parts).sum(dim=0), whole, **EXACT)


@pytest.mark.parametrize("name", ENGINES)
def test_a_gradient_of_zero_and_an_empty_batch_add_nothing(name: str) -> None:
    model = odd_net()
    images, targets = batch(2)

    def first_only(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels) * (labels == targets[0])

    assert targets[0] != targets[1]
    engine = build_engine(name, model, first_only, clip_norm=0.5)
    both = flat(engine.clipped_sum(images, targets))
    torch.testing.assert_close(both, flat(engine.clipped_sum(images[:1], targets[:1])), **EXACT)
    assert flat(engine.clipped_sum(images[:0], targets[:0])).abs().sum() == 0


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ENGINES)
def test_a_unit_without_a_finite_gradient_leaves_no_trace(name: str, poison: float) -> None:
    model = odd_net()
    images, targets = batch(6)
    engine = build_engine(name, model, cross_entropy, clip_norm=0.5, views=2)
    clean = flat(engine.clipped_sum(images[[0, 1, 4, 5]], targets[[0, 1, 4, 5]]))
    images[3, 0, 5, 5] = poison
    torch.testing.assert_close(flat(engine.clipped_sum(images, targets)), clean, **EXACT)
    assert flat(engine.clipped_sum(images[2:4], targets[2:4])).abs().sum() == 0


class _Poisoned(nn.Module):
    """A net whose logits for an image are spoiled where its first pixel is a mark."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.net, self._how = odd_net(), how

    def forward(self, images: Tensor) -> Tensor:
        marked = (images[:, 0, 0, 0] == 7).view(-1, 1)
        logits = self.net(images)
        if self._how == "forward":
            return logits * torch.where(marked, float("nan"), 1.0)
        # a square root at 0: the forward pass is finite, the backward pass is not
        zero = logits - logits.detach()
        return logits + torch.where(marked, zero, zero + 1).sqrt()


@pytest.mark.parametrize("how", ["forward", "backward"])
@pytest.mark.parametrize("name", [*ENGINES, "opacus ghost"])
def test_a_unit_that_is_poisoned_in_passing_leaves_no_trace(name: str, how: str) -> None:
    """The sum is that of the others, NaN in the forward pass or in the backward pass alone."""
    model, views = _Poisoned(how), 1 if name == "opacus ghost" else 2
    images, targets = batch(4 * views)
    images[0::views, 0, 0, 0] = 0.0
    others = [i for i in range(4 * views) if i // views != 1]

    def total(rows: list[int]) -> Tensor:
        build = OpacusGhostEngine if name == "opacus ghost" else ENGINES[name]
        engine = build(model, cross_entropy, clip_norm=0.5, views=views)
        return flat(engine.clipped_sum(images[rows], targets[rows]))

    clean = total(others)
    assert clean.abs().sum() > 0
    images[views, 0, 0, 0] = 7
    torch.testing.assert_close(total(list(range(4 * views))), clean, **EXACT)
    assert total([i for i in range(4 * views) if i // views == 1]).abs().sum() == 0


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("squared", [-1e-20, 0.0])
def test_a_norm_that_rounding_puts_below_zero_is_zero(
    name: str, squared: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = odd_net()
    images, targets = batch(2)
    engine = build_engine(name, model, cross_entropy, clip_norm=0.5)
    measure = engine._measure

    def rounded(*args: Tensor) -> tuple[Tensor, object]:
        found, weigh = measure(*args)
        return torch.full_like(found, squared), weigh

    monkeypatch.setattr(engine, "_measure", rounded)
    assert flat(engine.clipped_sum(images, targets)).isfinite().all()


@pytest.mark.parametrize("name", ENGINES)
def test_a_unit_whose_sum_alone_is_not_finite_leaves_no_trace(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever an engine gets wrong about one unit, the others' sum is whole."""
    model = odd_net()
    images, targets = batch(6)
    engine = build_engine(name, model, cross_entropy, clip_norm=0.5, views=2)
    clean = flat(engine.clipped_sum(images[[0, 1, 4, 5]], targets[[0, 1, 4, 5]]))
    measure, poisoned = engine._measure, images[2].clone()

    def spoiled(part: Tensor, wanted: Tensor) -> tuple[Tensor, object]:
        found, weigh = measure(part, wanted)
        if not any(torch.equal(image, poisoned) for image in part):
            return found, weigh
        return found, lambda factors: [total * float("inf") for total in weigh(factors)]

    monkeypatch.setattr(engine, "_measure", spoiled)
    torch.testing.assert_close(flat(engine.clipped_sum(images, targets)), clean, **EXACT)


@pytest.mark.parametrize("name", ENGINES)
def test_a_model_that_has_diverged_gives_zeros_and_no_error(name: str) -> None:
    model = odd_net()
    with torch.no_grad():
        model[-1].weight.fill_(float("nan"))
    images, targets = batch(4)
    engine = build_engine(name, model, cross_entropy, clip_norm=0.5)
    assert flat(engine.clipped_sum(images, targets)).abs().sum() == 0


@pytest.mark.parametrize("name", ENGINES)
def test_head_only(name: str) -> None:
    model = odd_net()
    model.requires_grad_(False)
    model[-1].requires_grad_(True)
    images, targets = batch(4)
    engine = build_engine(name, model, cross_entropy, clip_norm=0.2, views=2)
    found = engine.clipped_sum(images, targets)
    assert [part.shape for part in found] == [(3, 10), (3,)]
    expected = clipped(unit_gradients(model, images, targets, 2), 0.2)
    torch.testing.assert_close(flat(found), expected, **EXACT)


@pytest.mark.parametrize("frozen", ["0.weight", "0.bias", "1.weight", "4.bias", "6.weight"])
def test_any_parameter_can_be_frozen(frozen: str) -> None:
    model = odd_net(standardised=True)
    model.get_parameter(frozen).requires_grad_(False)
    images, targets = batch(3)
    engine = build_engine("ghost", model, cross_entropy, clip_norm=0.3)
    expected = clipped(unit_gradients(model, images, targets, 1), 0.3)
    torch.testing.assert_close(flat(engine.clipped_sum(images, targets)), expected, **EXACT)


@pytest.mark.parametrize("name", ENGINES)
def test_the_model_is_left_as_it_was(name: str) -> None:
    model = odd_net()
    model.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images, targets = batch(2)
    build_engine(name, model, cross_entropy, clip_norm=1.0).clipped_sum(images, targets)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(module._backward_hooks for module in model.modules())
    assert not model.training


def test_units_and_losses_must_be_whole() -> None:
    images, targets = batch(4)
    engine = build_engine("ghost", odd_net(), cross_entropy, clip_norm=1.0, views=3)
    with pytest.raises(ConfigError, match=r"4 images and 4 targets; expected .* views=3"):
        engine.clipped_sum(images, targets)
    mean = build_engine("ghost", odd_net(), nn.CrossEntropyLoss(), clip_norm=1.0)
    with pytest.raises(ConfigError, match=r"the loss gave \(\) for 4 images.*reduction='none'"):
        mean.clipped_sum(images, targets)


@pytest.mark.parametrize("name", ENGINES)
def test_half_precision_is_refused(name: str) -> None:
    images, targets = batch(2)
    engine = build_engine(name, odd_net().float(), cross_entropy, clip_norm=1.0)
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(ConfigError, match=r"set training\.precision=fp32"),
    ):
        engine.clipped_sum(images.float(), targets)


def test_wrong_numbers_and_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="clip_norm=0"):
        build_engine("ghost", odd_net(), cross_entropy, clip_norm=0)
    with pytest.raises(ConfigError, match="views=0"):
        build_engine("loop", odd_net(), cross_entropy, clip_norm=1, views=0)
    with pytest.raises(ConfigError, match=r"privacy\.engine=gost; .*did you mean ghost"):
        build_engine("gost", odd_net(), cross_entropy, clip_norm=1)


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize(("norm", "standardised"), [("group", False), ("none", True)])
def test_every_engine_is_torch_func_on_a_mask_of_each_image(
    norm: str, standardised: bool, views: int
) -> None:
    """A small U-Net with the loss of a segmentation: upsampling and concatenation are no layers."""
    cfg = ModelConfig(name="unet", norm=norm, norm_groups=2, weight_standardisation=standardised)
    torch.manual_seed(0)
    model = UNet(cfg, 3, 1, widths=(4, 8)).double()
    images = torch.randn(2 * views, 1, 8, 8, dtype=torch.float64)
    masks = torch.randint(0, 3, (2 * views, 8, 8), dtype=torch.uint8)
    gradients = unit_gradients(model, images, masks, views, losses=unit_losses)
    clip_norm = float(gradients.norm(dim=1).mean())
    expected = clipped(gradients, clip_norm)
    for name in ENGINES:
        engine = build_engine(name, model, unit_losses, clip_norm=clip_norm, views=views)
        torch.testing.assert_close(flat(engine.clipped_sum(images, masks)), expected, **EXACT)
