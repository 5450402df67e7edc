import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError, PrimiaError
from primia_flwr.models import build_model
from primia_flwr.privacy.clipping import Engine, build_engine
from primia_flwr.privacy.clipping.ghost import GhostEngine
from primia_flwr.privacy.clipping.record import Record
from primia_flwr.privacy.mechanisms.dp_step import Mechanism, NoisyGradient
from primia_flwr.privacy.mechanisms.noise import FLOAT_ALLOWANCE
from primia_flwr.privacy.mechanisms.randomness import keyed_generator

KEY = b"sixteen bytes .."


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits, targets, reduction="none")


def linear(inputs: int = 4, outputs: int = 3) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs)


def noisy(engine: Engine, **changed: float) -> NoisyGradient:
    values = {"clip_norm": 0.5, "noise_multiplier": 1e-6, "expected_batch": 8.0, **changed}
    mechanism = Mechanism(**values)  # type: ignore[arg-type]
    return NoisyGradient(engine, mechanism=mechanism, generator=keyed_generator(KEY))


def gradients(model: nn.Module) -> Tensor:
    parts = [p.grad.reshape(-1) for p in model.parameters() if p.grad is not None]
    return torch.cat(parts)


def test_numbers_by_hand() -> None:
    mechanism = Mechanism(clip_norm=2.0, noise_multiplier=3.0, expected_batch=10, grid_bits=10)
    assert mechanism.grid_step == 2.0 / 1024
    # 2 + 2/1024 for floating point + sqrt(4) 2/1024 for the grid
    assert mechanism.sensitivity(4) == 2.0 + 6.0 / 1024
    assert mechanism.sigma(4) == 3.0 * (1024 + 3)


def test_overhead_of_a_resnet18_is_what_the_docstring_says() -> None:
    mechanism = Mechanism(clip_norm=1.0, noise_multiplier=1.0, expected_batch=1)
    assert mechanism.sensitivity(11_171_779) == pytest.approx(1.0042, abs=5e-5)


def test_without_noise_it_is_the_clipped_sum_over_the_expected_batch() -> None:
    model = linear()
    engine = build_engine("ghost", model, cross_entropy, clip_norm=0.5)
    images, targets = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    expected = torch.cat([part.reshape(-1) for part in engine.clipped_sum(images, targets)]) / 8
    noisy(engine).set_gradients([(images, targets)])
    # One grid step is 0.5 / 2^20; rounding half a step, the noise about a step.
    torch.testing.assert_close(gradients(model), expected, rtol=0, atol=6 * 0.5 / 2**20 / 8)
    noisy(engine).set_gradients([(images[:4], targets[:4]), (images[4:], targets[4:])])
    torch.testing.assert_close(gradients(model), expected, rtol=0, atol=6 * 0.5 / 2**20 / 8)


@settings(max_examples=60)
@given(
    rows=st.lists(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4), min_size=1, max_size=9
    ),
    name=st.sampled_from(["ghost", "loop"]),
)
def test_one_unit_moves_the_sum_by_no_more_than_the_sensitivity(
    rows: list[list[float]], name: str
) -> None:
    """Under one and the same noise the last unit comes and goes, however large its gradient."""
    model = linear()
    engine = build_engine(name, model, cross_entropy, clip_norm=0.5)
    images, targets = torch.tensor(rows), torch.arange(len(rows)) % 3
    released = []
    for count in (len(rows), len(rows) - 1):
        noisy(engine, noise_multiplier=1.0).set_gradients([(images[:count], targets[:count])])
        released.append(gradients(model).double())
    moved = float((released[0] - released[1]).norm()) * 8
    mechanism = Mechanism(clip_norm=0.5, noise_multiplier=1.0, expected_batch=8)
    assert moved <= mechanism.sensitivity(15)


@pytest.mark.parametrize("batches", [[], [(torch.zeros(0, 300), torch.zeros(0, dtype=torch.long))]])
def test_an_empty_batch_gives_noise_of_the_promised_width(
    batches: list[tuple[Tensor, Tensor]],
) -> None:
    model = linear(300, 200)
    engine = build_engine("ghost", model, cross_entropy, clip_norm=0.5)
    noisy(engine, noise_multiplier=2.0).set_gradients(batches)
    found = gradients(model).double().numpy()
    entries = 300 * 200 + 200
    sigma = 2.0 * (0.5 * (1 + FLOAT_ALLOWANCE) + 0.5 * math.sqrt(entries) / 2**20) / 8
    assert stats.kstest(found / sigma, "norm").pvalue > 0.01
    assert found.std() == pytest.approx(sigma, rel=4 / math.sqrt(2 * entries))


def test_what_comes_out_lies_on_the_grid() -> None:
    model = linear().double()
    engine = build_engine("ghost", model, cross_entropy, clip_norm=0.5)
    images = torch.randn(6, 4, dtype=torch.float64)
    step = noisy(engine, noise_multiplier=1.0)
    step.set_gradients([(images, torch.tensor([0, 1, 2, 0, 1, 2]))])
    steps = gradients(model) * 8 * 2**20 / 0.5
    assert torch.equal(steps, steps.round())


def test_by_default_no_two_steps_have_the_same_noise() -> None:
    model = linear()
    engine = build_engine("loop", model, cross_entropy, clip_norm=1.0)
    mechanism = Mechanism(clip_norm=1.0, noise_multiplier=1.0, expected_batch=1.0)
    seen = set()
    for _ in range(10):
        NoisyGradient(engine, mechanism=mechanism).set_gradients([])
        seen.add(gradients(model).numpy().tobytes())
    assert len(seen) == 10


def test_parts_of_a_large_gradient_have_noise_of_their_own() -> None:
    model = linear(1100, 2000)  # two parts of 2^20 entries and a bit
    engine = build_engine("loop", model, cross_entropy, clip_norm=1.0)
    mechanism = Mechanism(clip_norm=1.0, noise_multiplier=1.0, expected_batch=1.0)
    NoisyGradient(engine, mechanism=mechanism).set_gradients([])
    found = gradients(model)
    first, second = found[: 1 << 20], found[1 << 20 : 2 << 20]
    # Independent: correlation 0 with a standard deviation of 2^-10.
    assert abs(float(torch.corrcoef(torch.stack((first, second)))[0, 1])) < 5 / 2**10
    assert float(found.std()) == pytest.approx(mechanism.sensitivity(found.numel()), rel=0.01)


def test_only_trainable_parameters_get_gradients_and_noise() -> None:
    model = nn.Sequential(linear(4, 4).requires_grad_(False), linear(4, 3))
    engine = build_engine("ghost", model, cross_entropy, clip_norm=0.5)
    noisy(engine, noise_multiplier=1.0).set_gradients([(torch.randn(2, 4), torch.tensor([0, 1]))])
    assert model[0].weight.grad is None
    assert all(p.grad is not None and bool(p.grad.any()) for p in model[1].parameters())


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimiser_learns_from_it(optimizer: type[torch.optim.Optimizer]) -> None:
    """Two clearly separate classes, noise multiplier 1, batches of 64 of 256 on average."""
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    targets = torch.arange(256) % 2
    points = torch.randn(256, 2) + 4 * targets[:, None]
    engine = build_engine("ghost", model, cross_entropy, clip_norm=1.0)
    step = noisy(engine, clip_norm=1.0, noise_multiplier=1.0, expected_batch=64.0)
    updates = optimizer(model.parameters(), lr=0.2)  # type: ignore[call-arg]
    draw = np.random.default_rng(0)
    for _ in range(60):
        drawn = torch.from_numpy(np.flatnonzero(draw.random(256) < 0.25))
        step.set_gradients([(points[drawn], targets[drawn])])
        updates.step()
    assert float((model(points).argmax(dim=1) == targets).float().mean()) > 0.95


def test_float32_sums_stay_far_within_the_allowance() -> None:
    """32 units of ResNet-18, whose clipped sum is taken in float32 and in float64.

    The same inputs and output gradients of the layers go in: how these are rounded may be as it
    is, as long as what they stand for is clipped to the norm and added up right.
    """
    cfg = ModelConfig(norm="group", weight_standardisation=True)
    model = build_model(cfg, outputs=3, channels=1, seed=0)
    engine = GhostEngine(model, cross_entropy, clip_norm=1.0)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(32, 1, 64, 64, generator=generator)
    records = engine._records(images, torch.randint(0, 3, (32,), generator=generator))
    ours, exact = torch.zeros(2, 32, dtype=torch.float64)
    doubled = {module: in_float64(record) for module, record in records.items()}
    error = 0.0
    with torch.no_grad():
        for module, record in records.items():
            ours += engine._rules[module].squared_norms(record)
        factors = (1 / ours.sqrt()).clamp(max=1)
        for module, record in records.items():
            sums = engine._rules[module].clipped(record, factors.float())
            module.double()
            exact += engine._rules[module].squared_norms(doubled[module])
            wanted = engine._rules[module].clipped(doubled[module], factors)
            for (_, found), (_, right) in zip(sums, wanted, strict=True):
                error += float((found.double() - right).square().sum())
    lengths = exact.sqrt() * factors
    assert float(lengths.max()) < 1 + 1e-6  # none is longer than the norm
    assert float(lengths.min()) > 0.998  # and what the allowance costs is little
    assert math.sqrt(error) < FLOAT_ALLOWANCE / 16


def in_float64(record: Record) -> Record:
    return Record(record.x.double(), record.y.double(), record.dy.double(), record.views)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("clip_norm", 0.0),
        ("noise_multiplier", 0.0),
        ("noise_multiplier", math.nan),
        ("expected_batch", 0.0),
        ("expected_batch", math.inf),
        ("grid_bits", 9),
        ("grid_bits", 31),
    ],
)
def test_wrong_numbers_are_refused(key: str, value: float) -> None:
    values = {"clip_norm": 1.0, "noise_multiplier": 1.0, "expected_batch": 1.0, key: value}
    with pytest.raises(ConfigError, match=f"{key}={value}"):
        Mechanism(**values)  # type: ignore[arg-type]


def test_engine_and_noise_must_agree_on_the_norm() -> None:
    engine = build_engine("loop", linear(), cross_entropy, clip_norm=2.0)
    with pytest.raises(PrimiaError, match=r"clips to 2\.0, the noise is for 0\.5"):
        noisy(engine)


def test_a_sum_that_is_not_finite_is_noise_alone_and_no_error() -> None:
    """Engines give finite sums; should one not, an error would tell one bit without noise."""
    engine = build_engine("loop", linear(), cross_entropy, clip_norm=0.5)
    engine.measured_sum = lambda images, targets: (  # type: ignore[method-assign]
        [torch.full((3, 4), math.nan), torch.zeros(3)],
        torch.zeros(1),
    )
    noisy(engine).set_gradients([(torch.zeros(1, 4), torch.zeros(1))])
    for parameter in engine.parameters:
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0
