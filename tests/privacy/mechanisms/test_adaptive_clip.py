"""A clip that moves: its numbers by hand, what one unit moves, and that it finds its quantile."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError, PrimiaError
from primia_flwr.models import build_model
from primia_flwr.privacy.clipping import build_engine
from primia_flwr.privacy.mechanisms.adaptive_clip import (
    COUNT_ALLOWANCE,
    AdaptiveGradient,
    ClipRule,
)
from primia_flwr.privacy.mechanisms.dp_step import Mechanism
from primia_flwr.privacy.mechanisms.randomness import keyed_generator
from tests.privacy.clipping.clipped_nets import batch, cross_entropy, odd_net, unit_gradients

KEY = b"sixteen bytes .."
MEDIAN = ClipRule(quantile=0.5, rate=0.2, count_noise=5.0)
SILENT = ClipRule(quantile=0.5, rate=0.2, count_noise=1e-5)


def times(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs[:, 0] * targets


def adaptive(
    rule: ClipRule, *, clip_norm: float = 1.0, noise: float = 1e-6, batch: float = 4.0
) -> tuple[nn.Linear, AdaptiveGradient]:
    """Return a line w x whose unit (x, t) has the gradient x t, whatever w is."""
    model = nn.Linear(1, 1, bias=False)
    engine = build_engine("ghost", model, times, clip_norm=clip_norm)
    mechanism = Mechanism(clip_norm=clip_norm, noise_multiplier=noise, expected_batch=batch)
    generator = keyed_generator(KEY)
    return model, AdaptiveGradient(engine, mechanism=mechanism, rule=rule, generator=generator)


def units(norms: list[float]) -> list[tuple[Tensor, Tensor]]:
    return [(torch.tensor(norms).view(-1, 1), torch.ones(len(norms)))]


def test_the_gradients_noise_by_hand() -> None:
    # 1 / sqrt(1 - (1 / 10)^2) = 1.00504
    assert MEDIAN.gradient_noise(1.0) == pytest.approx((1 - 0.01) ** -0.5, rel=1e-8)
    assert MEDIAN.gradient_noise(1.0) == pytest.approx(1.00504, abs=5e-6)
    # 6 / sqrt(1 - 0.36) = 7.5
    assert MEDIAN.gradient_noise(6.0) == pytest.approx(7.5, rel=1e-8)


@given(st.floats(0.1, 100), st.floats(0.51, 1000))
def test_both_together_cost_what_the_step_is_charged_with(noise: float, times_noise: float) -> None:
    rule = ClipRule(quantile=0.5, rate=0.2, count_noise=noise * times_noise)
    gradients = rule.gradient_noise(noise)
    assert gradients**-2 + (2 * rule.count_noise) ** -2 <= noise**-2
    assert gradients**-2 + (2 * rule.count_noise) ** -2 == pytest.approx(noise**-2, rel=1e-6)


def test_counts_that_leave_nothing_for_the_gradient_are_refused() -> None:
    for noise in (10.0, 11.0):
        with pytest.raises(ConfigError, match=r"clip_count_noise=5 with steps of noise multiplier"):
            MEDIAN.gradient_noise(noise)
    assert MEDIAN.gradient_noise(9.9) > 9.9


def test_centred_counts_by_hand() -> None:
    # clip 2: certain up to 1.75 and from 2.25 on, a straight line between
    norms = np.array([0.0, 1.75, 2.0, 2.125, 2.25, 1e9])
    found = [MEDIAN.centred(norms[at : at + 1], 2.0) for at in range(6)]
    assert found == [0.5, 0.5, 0.0, -0.25, -0.5, -0.5]
    assert MEDIAN.centred(norms, 2.0) == pytest.approx(-0.25)
    assert MEDIAN.centred(norms[:0], 2.0) == 0.0


def test_the_clip_moves_by_hand() -> None:
    # of four, three below: b = 3/4, exp(-0.2 (3/4 - 1/2)); the centred sum is 3/2 - 1/2
    assert MEDIAN.moved(2.0, 1.0, expected_batch=4) == pytest.approx(2 * math.exp(-0.05))
    assert MEDIAN.moved(2.0, -2.0, expected_batch=4) == pytest.approx(2 * math.exp(0.1))
    nine = ClipRule(quantile=0.9, rate=1.0, count_noise=5.0)
    assert nine.moved(1.0, 0.0, expected_batch=4) == pytest.approx(math.exp(0.4))


@pytest.mark.parametrize("noisy", [1e9, -1e9, 1e300])
def test_no_noise_moves_the_clip_out_of_bounds(noisy: float) -> None:
    clip = 1.0
    for _ in range(10):
        clip = MEDIAN.moved(clip, noisy, expected_batch=1)
        assert 1e-6 <= clip <= 1e6


def test_a_step_clips_to_the_norm_before_and_moves_it_for_the_next() -> None:
    model, step = adaptive(SILENT)
    step.set_gradients(units([0.1, 0.2, 0.3, 40.0]))
    assert float(model.weight.grad) == pytest.approx((0.1 + 0.2 + 0.3 + 1.0) / 4, abs=1e-4)
    first = math.exp(-0.05)  # three of four are below
    assert step.clip_norm == pytest.approx(first, abs=1e-4)
    step.set_gradients(units([30.0, 40.0]))
    assert float(model.weight.grad) == pytest.approx(2 * first / 4, abs=1e-4)
    # none below, and two drawn where four are expected: b = 1/2 - 2/2 / 4
    assert step.clip_norm == pytest.approx(first * math.exp(0.05), abs=1e-4)


def test_how_a_step_is_cut_into_parts_moves_nothing() -> None:
    (one, whole), (other, parts) = adaptive(SILENT), adaptive(SILENT)
    whole.set_gradients(units([0.1, 2.0, 3.0]))
    parts.set_gradients([*units([0.1]), *units([2.0, 3.0])])
    assert whole.clip_norm == parts.clip_norm
    torch.testing.assert_close(one.weight.grad, other.weight.grad)


def test_the_noise_on_the_count_and_the_gradient_is_what_the_rule_says() -> None:
    """On empty draws: 2,000 counts of deviation 5/6, gradients of 1.25 clips, for a z of 1."""
    rule = ClipRule(quantile=0.5, rate=1.0, count_noise=5 / 6)
    counts, gradients = [], []
    model, step = adaptive(rule, noise=1.0)
    for _ in range(2000):
        before = step.clip_norm
        step.set_gradients([])
        counts.append(-4 * math.log(step.clip_norm / before))
        gradients.append(float(model.weight.grad) * 4 / before)
        step = adaptive_again(step, model, rule)
    # 1 / sqrt(1 - (3/5)^2) = 1.25; a pair that does not know of each other
    assert stats.kstest(np.array(counts) / (5 / 6 * (1 + COUNT_ALLOWANCE)), "norm").pvalue > 0.01
    assert stats.kstest(np.array(gradients) / (1.25 * (1 + 2**-10)), "norm").pvalue > 0.01
    assert abs(np.corrcoef(counts, gradients)[0, 1]) < 5 / 2000**0.5


def adaptive_again(step: AdaptiveGradient, model: nn.Linear, rule: ClipRule) -> AdaptiveGradient:
    """Begin again at a clip of 1, with the same stream of noise."""
    engine = build_engine("loop", model, times, clip_norm=1.0)
    mechanism = Mechanism(clip_norm=1.0, noise_multiplier=1.0, expected_batch=4.0)
    return AdaptiveGradient(engine, mechanism=mechanism, rule=rule, generator=step._generator)


@settings(max_examples=60, deadline=None)
@given(
    norms=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=9),
    noise=st.floats(0.2, 2),
    times_noise=st.floats(0.52, 20),
)
def test_one_unit_moves_the_pair_by_no_more_than_is_charged(
    norms: list[float], noise: float, times_noise: float
) -> None:
    """Under the same noise the last unit comes and goes; in deviations both move by at most 1/z."""
    rule = ClipRule(quantile=0.5, rate=0.2, count_noise=noise * times_noise)
    seen = []
    for count in (len(norms), len(norms) - 1):
        model, step = adaptive(rule, noise=noise, batch=8.0)
        step.set_gradients(units(norms[:count]) if count else [])
        gradient = float(model.weight.grad) * 8 / rule.gradient_noise(noise)
        seen.append((gradient, 8 * math.log(step.clip_norm) / 0.2 / rule.count_noise))
    moved = math.dist(*seen)
    assert moved <= (1 + COUNT_ALLOWANCE) / noise


def test_the_clip_finds_the_quantile_of_known_norms() -> None:
    rng = np.random.default_rng(0)
    norms = np.exp(rng.normal(1.0, 0.5, 500))  # median e
    for quantile, expected in ((0.5, math.e), (0.9, float(np.quantile(norms, 0.9)))):
        rule = ClipRule(quantile=quantile, rate=0.2, count_noise=5.0)
        _, step = adaptive(rule, clip_norm=0.01, noise=1.0, batch=100.0)
        found = []
        for _ in range(160):
            drawn = norms[rng.random(500) < 0.2]
            step.set_gradients(units(drawn.tolist()))
            found.append(step.clip_norm)
        assert float(np.mean(found[100:])) == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize("name", ["ghost", "loop", "opacus"])
@pytest.mark.parametrize("views", [1, 2])
def test_every_engine_measures_the_units_before_it_clips_them(name: str, views: int) -> None:
    model = odd_net()
    images, targets = batch(6)
    expected = unit_gradients(model, images, targets, views).norm(dim=1)
    engine = build_engine(name, model, cross_entropy, clip_norm=0.01, views=views)
    _, norms = engine.measured_sum(images, targets)
    assert norms.shape == (6 // views,)
    torch.testing.assert_close(norms, expected, rtol=2e-3, atol=0)  # the fast one rounds up
    assert engine.measured_sum(images[:0], targets[:0])[1].shape == (0,)


@pytest.mark.parametrize("name", ["ghost", "loop", "opacus"])
def test_a_unit_that_is_not_finite_is_not_counted(name: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1, bias=False))
    images = torch.tensor([0.1, math.nan, 0.2, math.inf]).view(-1, 1, 1, 1)
    engine = build_engine(name, model, times, clip_norm=1.0)
    total, norms = engine.measured_sum(images, torch.ones(4))
    assert norms.tolist() == pytest.approx([0.1, 0.2])
    assert float(total[0]) == pytest.approx(0.3)


def test_one_unit_more_changes_the_others_counts_far_less_than_the_allowance() -> None:
    """16 units of a ResNet-18 measured together and each alone."""
    cfg = ModelConfig(norm="group", weight_standardisation=True)
    model = build_model(cfg, outputs=3, channels=1, seed=0)
    engine = build_engine("ghost", model, cross_entropy, clip_norm=1.0)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 1, 32, 32, generator=generator)
    labels = torch.randint(0, 3, (16,), generator=generator)
    together = engine.measured_sum(images, labels)[1].numpy()
    alone = np.concatenate(
        [engine.measured_sum(images[at : at + 1], labels[at : at + 1])[1] for at in range(16)]
    )
    # as if all of them stood on the straight line, which is 1/4 of the clip wide
    moved = 4 * float(np.abs(alone / together - 1).sum())
    assert 0 < moved < 0.5 * COUNT_ALLOWANCE / 4


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"quantile": 0.0}, "privacy.clip_quantile=0"),
        ({"quantile": 1.0}, "privacy.clip_quantile=1"),
        ({"rate": 0.0}, "privacy.clip_rate=0"),
        ({"count_noise": 0.0}, "privacy.clip_count_noise=0"),
        ({"count_noise": math.nan}, "privacy.clip_count_noise=nan"),
    ],
)
def test_wrong_numbers_are_refused(changed: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        ClipRule(**{"quantile": 0.5, "rate": 0.2, "count_noise": 5.0, **changed})


def test_engine_and_noise_must_agree_on_the_norm_it_begins_with() -> None:
    engine = build_engine("loop", nn.Linear(1, 1), times, clip_norm=2.0)
    mechanism = Mechanism(clip_norm=0.5, noise_multiplier=1.0, expected_batch=4.0)
    with pytest.raises(PrimiaError, match=r"clips to 2\.0, the noise is for 0\.5"):
        AdaptiveGradient(engine, mechanism=mechanism, rule=MEDIAN)


@pytest.mark.parametrize(
    ("given_keys", "sentence"),
    [
        ({"mode": "dp_sgd", "clip_quantile": 1.0}, "privacy.clip_quantile=1"),
        ({"mode": "dp_sgd", "clip_quantile": -0.1}, "privacy.clip_quantile=-0.1"),
        ({"mode": "dp_sgd", "clip_rate": 0.0}, "privacy.clip_rate=0"),
        ({"mode": "dp_sgd", "clip_count_noise": -1.0}, "privacy.clip_count_noise=-1"),
        ({"mode": "none", "clip_quantile": 0.5}, "expected 0: without privacy"),
        ({"mode": "dp_aggregate", "clip_quantile": 0.5}, "expected 0: the noise of a site's part"),
        (
            {"mode": "dp_sgd_shared", "clip_quantile": 0.5, "sampling_rate": 0.5, "steps": 1},
            "expected 0: the sum's scale",
        ),
        (
            # 64 / 20 = 3.2
            {"mode": "dp_sgd", "clip_quantile": 0.5, "epsilon": 0.0, "noise_multiplier": 6.4},
            r"clip_count_noise=3\.2 with steps of noise multiplier 6\.4; expected more than half",
        ),
    ],
)
def test_what_cannot_be_is_refused(given_keys: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        PrivacyConfig(**{"epsilon": 0.0 if given_keys["mode"] == "none" else 3.0, **given_keys})


def test_the_counts_noise_is_a_twentieth_of_the_batch_or_what_is_set() -> None:
    assert PrivacyConfig(expected_batch=128).count_noise == 6.4
    assert PrivacyConfig(expected_batch=128, clip_count_noise=2.0).count_noise == 2.0
    # without an adaptive clip nothing is counted, and nothing refused
    PrivacyConfig(mode="dp_sgd", noise_multiplier=50.0).check_count_noise(50.0)
