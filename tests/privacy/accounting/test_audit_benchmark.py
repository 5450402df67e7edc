"""The audit's attacks in tiny sizes, and that its verdict turns on them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from primia_bench.privacy.audit import __main__ as dp_audit
from primia_bench.privacy.audit import adaptive, aggregate, one_run, paths, step
from primia_bench.privacy.audit.__main__ import CAUGHT, HOLDS, Audit
from primia_bench.privacy.audit.attacker import Attacker
from primia_bench.privacy.audit.counting import DELTA, best_log_ratio
from primia_bench.privacy.audit.patients import canaries, canary, network, ordinary
from scipy.stats import norm
from torch.nn import functional

from primia_flwr.privacy.accounting.events import Gaussian, SampledGaussian
from primia_flwr.privacy.clipping import build_engine

TINY = replace(one_run.SOUND[0], canaries=120, ordinary=30, guesses=100, steps=1)
OFF = replace(TINY, noise_factor=1e-6)
FEW = replace(aggregate.SOUND[1], runs=2000)
STEP = replace(step.SOUND[0], runs=1000)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The network is so small that threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def each_setting_once() -> Iterator[None]:
    """The same setting gives the same figures: what is expected of them does not change them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_run, "run", cache(one_run.run))
        yield


def test_the_network_has_the_size_that_it_says() -> None:
    count = sum(parameter.numel() for parameter in network(seed=0).parameters())
    assert f"{count:,}" in str(network.__doc__)


def test_patients_have_one_to_three_images_of_one_label() -> None:
    known = ordinary(7, seed=0)
    sizes = [known.names.count(f"patient {at}") for at in range(7)]
    assert sizes == [1, 2, 3, 1, 2, 3, 1]
    for name in set(known.names):
        assert len(set(known.only({name}).labels.tolist())) == 1
    both = known.with_(canaries(3, images=2, seed=1).only({canary(1)}))
    assert len(both.images) == 13 + 2
    assert both.names[-2:] == (canary(1), canary(1))


@pytest.mark.parametrize("by_image", [False, True])
def test_the_attacker_makes_the_engines_gradients(by_image: bool) -> None:
    """`torch.func` and the engine under test agree, so that what is tested is the noise."""
    possible, model = canaries(6, images=3, seed=1), network(seed=0)
    attacker = Attacker(
        model,
        ordinary(1, seed=0),
        possible,
        views=3,
        clip_norm=2.0,
        noise_multiplier=1.0,
        rate=1.0,
        by_image=by_image,
    )
    attacker.look()
    loss = partial(functional.cross_entropy, reduction="none")
    views = 1 if by_image else 3
    engine = build_engine("loop", model, loss, clip_norm=2.0, views=views)
    for at in range(6):
        own = slice(3 * at, 3 * at + 3)
        parts = engine.clipped_sum(possible.images[own], possible.labels[own])
        together = torch.cat([part.reshape(-1) for part in parts])
        torch.testing.assert_close(attacker._gradients[at], together, rtol=1e-3, atol=1e-4)


def test_without_noise_every_canary_is_told() -> None:
    coins = np.arange(120) % 3 == 0
    likely, unlikely = one_run.attacked(replace(OFF, guesses=80), coins, 1e-6, seed=0)
    assert coins[likely].all()
    assert not coins[unlikely].any()


def test_with_much_noise_guesses_are_luck() -> None:
    coins = np.arange(120) % 2 == 0
    likely, unlikely = one_run.attacked(TINY, coins, 1e4, seed=0)
    right = coins[likely].sum() + (~coins[unlikely]).sum()
    assert 20 <= right <= 80  # of 100, half; six deviations of 5


def test_the_claim_is_the_accountants_and_counts_are_whole() -> None:
    row = one_run.run(TINY)
    assert row["claimed_epsilon"] == pytest.approx(1.0, rel=2e-3)
    assert row["accountant"] == "pld"
    assert 0 <= row["right"] <= row["guesses"] == 100
    assert row["exceeds_claim"] is (row["lower_bound"] > row["claimed_epsilon"])


def test_the_threshold_by_hand() -> None:
    # noise multiplier 1: projections of +-1 with deviation 2, whose likelihoods' ratio at p is
    # exp(p / 2). For the Gaussian mechanism at distance 1, delta(epsilon) is (Balle, Wang 2018)
    epsilon = aggregate.threshold(1.0) / 2 / 0.9
    delta = norm.cdf(0.5 - epsilon) - np.exp(epsilon) * norm.cdf(-0.5 - epsilon)
    assert delta == pytest.approx(DELTA, rel=1e-2)


def test_projections_have_the_claimed_moments() -> None:
    found = aggregate.projections(FEW, -1.0)
    # noise multiplier 1 on a sensitivity of 2; 2,000 draws
    assert found.mean() == pytest.approx(-1.0, abs=5 * 2 / 2000**0.5)
    assert found.std() == pytest.approx(2.0, rel=0.08)


@pytest.mark.parametrize("setting", [*aggregate.SOUND, *aggregate.BROKEN])
def test_the_real_noise_is_what_the_setting_says(setting: aggregate.Setting) -> None:
    found = aggregate.projections(replace(setting, runs=2000), 1.0)
    assert found.std() == pytest.approx(2 * setting.real_multiplier, rel=0.08)


@pytest.mark.parametrize("setting", [*step.SOUND, *step.BROKEN])
def test_a_step_adds_what_the_setting_says(setting: step.Setting) -> None:
    few = replace(setting, runs=500)
    without = step.projections(few, with_canary=False)
    deviation = setting.real.noise_multiplier * setting.adds
    assert abs(without.mean()) < 5 * deviation / 500**0.5  # the known patient is orthogonal
    assert without.std() == pytest.approx(deviation, rel=0.16)
    found = step.projections(few, with_canary=True)
    drawn = (setting.rate * (1 - setting.rate)) ** 0.5 * setting.adds
    assert found.mean() == pytest.approx(
        setting.rate * setting.adds, abs=5 * np.hypot(deviation, drawn) / 500**0.5
    )


def without_noise(setting: paths.Setting) -> float:
    """Return how far the canary moves what is released, in clipping norms of one step."""
    silent = replace(setting, noise_factor=1e-5)
    with paths._seeds(silent):
        there, not_there = (paths.released(silent, with_canary=one) for one in (True, False))
    return float(np.linalg.norm(there - not_there)) * paths.KNOWN / paths.CLIP_NORM


@pytest.mark.parametrize(
    "setting",
    [s for s in paths.SOUND if not (s.augmented or s.statistics) and s.rate == 1 and s.rounds == 1],
    ids=lambda s: s.name,
)
def test_a_canary_moves_a_round_by_one_clipping_norm(setting: paths.Setting) -> None:
    # both data sets divide by the expected batch: 16 units drawn surely, and 15
    scale = (paths.KNOWN + 1) / paths.KNOWN
    assert without_noise(setting) <= 1.02 * scale
    assert without_noise(setting) > 0.5


def test_seeds_by_place_move_all_behind_the_canary() -> None:
    assert without_noise(paths.BROKEN[0]) > 1.8


def test_a_direction_has_length_1_and_finds_the_canary() -> None:
    setting = paths.SOUND[0]
    towards = paths.direction(setting)
    assert np.linalg.norm(towards) == pytest.approx(1)
    silent = replace(setting, noise_factor=1e-5)
    one, other = (
        paths.projections(silent, towards, 1, with_canary=there)[0] for there in (True, False)
    )
    assert (one - other) * paths.KNOWN == pytest.approx(without_noise(setting), rel=0.1)


def test_the_threshold_of_two_gaussians() -> None:
    # deviation 1 around 0 and 1: the log-likelihood ratio at p is p - 1/2
    rng = np.random.default_rng(0)
    found = paths.best_threshold(rng.normal(1, 1, 200_000), rng.normal(0, 1, 200_000))
    cut = best_log_ratio(Gaussian(noise_multiplier=1.0))
    assert found == pytest.approx(0.5 + cut, abs=0.03)


def test_the_threshold_where_half_is_drawn() -> None:
    # at p the ratio is 1/2 + exp(p - 1/2) / 2
    rng = np.random.default_rng(0)
    one = rng.normal(rng.integers(0, 2, 200_000), 1)
    found = paths.best_threshold(one, rng.normal(0, 1, 200_000), rate=0.5)
    cut = best_log_ratio(SampledGaussian(noise_multiplier=1.0, sampling_rate=0.5, steps=1))
    assert 0.5 + np.exp(found - 0.5) / 2 == pytest.approx(np.exp(cut), rel=0.04)


def test_a_shared_step_claims_what_a_site_charges_and_has_its_noise() -> None:
    (setting,) = (s for s in paths.SOUND if s.name == "noise shared in the sum")
    assert setting.claimed == setting.shared.times(1)
    rng = np.random.default_rng(0)
    towards = rng.normal(size=setting.shared.entries)
    towards /= np.linalg.norm(towards)
    found = paths.projections(replace(setting, augmented=False), towards, 300, with_canary=True)
    # sensitivity 1 / 15, noise multiplier 1; a deviation of 300 numbers is known to 4 %
    assert found.std() == pytest.approx(setting.shared.sensitivity, rel=0.2)


@pytest.mark.parametrize(
    ("setting", "steps"),
    [
        (paths.Setting(name="", rounds=2), 2),
        (paths.Setting(name="", copies=2), 2),
        (paths.Setting(name="", copies=4, uncharged=3), 1),
    ],
)
def test_a_path_claims_what_a_site_charges(setting: paths.Setting, steps: int) -> None:
    assert setting.claimed == SampledGaussian(noise_multiplier=1.0, sampling_rate=1.0, steps=steps)


def moved_by_the_canary(setting: adaptive.Setting) -> float:
    """Return how far a canary moves gradients and counts together, in deviations of their noise."""
    with adaptive._mistakes(setting):
        there, not_there = (
            adaptive.released(setting, with_canary=one, silent=True) for one in (True, False)
        )
    return float(np.linalg.norm(there - not_there))


@pytest.mark.parametrize(
    "setting",
    [s for s in adaptive.SOUND if s.rate == 1 and s.rounds == 1],
    ids=lambda s: s.name,
)
def test_gradients_and_counts_are_moved_together_by_what_is_charged(
    setting: adaptive.Setting,
) -> None:
    # a noise multiplier of 1: one deviation, however it is dealt out to the two
    assert moved_by_the_canary(setting) == pytest.approx(1.0, abs=0.03)


def test_counts_that_are_not_paid_for_would_move_more() -> None:
    unpaid, third = adaptive.BROKEN
    # counts with noise 2 * 0.52, and gradients with 1 where 1 / sqrt(1 - 1 / 1.04^2) would be sound
    sound = (1 - 1 / 1.04**2) ** -0.5
    with adaptive._mistakes(unpaid):
        gradients, _ = adaptive._deviations(unpaid, 1.0)
    assert gradients == pytest.approx(1.0)
    assert adaptive._deviations(unpaid, 1.0)[0] == pytest.approx(sound)
    assert moved_by_the_canary(unpaid) == pytest.approx((1 + 1 / 1.04**2) ** 0.5, abs=0.04)
    # gradients with 1 / sqrt(1 - 1 / 4), counts with a third of 2
    assert moved_by_the_canary(third) == pytest.approx((1 - 1 / 4 + 9 / 4) ** 0.5, abs=0.05)


def test_what_is_seen_of_gradients_and_counts_has_deviation_1() -> None:
    setting = adaptive.SOUND[0]
    size = (paths.SIDE**2 + 1) * paths.CLASSES
    towards = np.zeros(size + 1)
    towards[-1] = towards[0] = 0.5**0.5  # the count and an entry that a grey pixel moves little
    found = adaptive.projections(setting, towards, 300, with_canary=False)
    assert found.std() == pytest.approx(1, rel=0.2)  # of 300 numbers it is known to 4 %


def test_a_verdict_names_what_is_not_as_expected() -> None:
    rows = dp_audit.measure(
        [
            Audit("dp_sgd", HOLDS, TINY),
            Audit("dp_sgd", CAUGHT, OFF),
            Audit("dp_sgd", HOLDS, OFF),
            Audit("dp_sgd", CAUGHT, TINY),
            Audit("dp_sgd_step", HOLDS, STEP),
            Audit("dp_sgd_step", CAUGHT, replace(STEP, noise_factor=0.25)),
            Audit("dp_aggregate", HOLDS, FEW),
            Audit("dp_aggregate", CAUGHT, replace(FEW, noise_factor=0.2)),
        ]
    )
    assert [row["as_expected"] for row in rows] == [True, True, False, False] + [True] * 4
    assert "NOT AS expected" in dp_audit.line(rows[2])


def test_everything_is_audited_sound_and_broken() -> None:
    audits = dp_audit.all_audits()
    for name, module in dp_audit.MECHANISMS.items():
        of_it = [audit for audit in audits if audit.mechanism == name]
        assert len(of_it) == len(module.SOUND) + len(module.BROKEN)
        assert {audit.expected for audit in of_it} == {HOLDS, CAUGHT}
    assert len(one_run.SOUND) >= 3


@pytest.mark.parametrize(("expected", "code"), [(CAUGHT, 0), (HOLDS, 1)])
def test_the_exit_code(
    expected: str, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dp_audit, "all_audits", lambda: [Audit("dp_sgd", expected, OFF)])
    output = tmp_path / "audit.json"
    assert dp_audit.main(["--output", str(output)]) == code
    assert json.loads(output.read_text())["ok"] is (code == 0)


def test_help_says_when_it_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        dp_audit.main(["--help"])
    assert "Exit code 1" in capsys.readouterr().out
