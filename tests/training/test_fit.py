import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.data import AugmentationConfig, FlipConfig, MixupConfig
from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.errors import ConfigError, DataError, PrimiaError
from primia_flwr.tasks.task import Evaluation
from primia_flwr.training import fit as fit_module
from primia_flwr.training.evaluate import evaluate
from primia_flwr.training.fit import FitResult, Progress, fit
from primia_flwr.training.plan import LocalPlan, plan_round
from primia_flwr.training.recipe import Recipe
from primia_flwr.training.round import _check_weights
from tests.training.tiny_training import (
    HALF,
    IDENTITY,
    PLAIN,
    OnePixel,
    one_pixel,
    random_images,
    small_net,
    with_patience,
)

ADAMW = replace(
    PLAIN, optimizer="adamw", learning_rate=1e-2, min_learning_rate=1e-4, schedule="one_cycle"
)
VARIED = AugmentationConfig(flip=FlipConfig(horizontal=0.5))


def run(
    model: nn.Module,
    train: LabelledImages,
    cfg: TrainingConfig,
    val: LabelledImages | None = None,
    **options: object,
) -> FitResult:
    given: dict[str, Any] = dict(options)
    plan = given.pop("plan", None)
    plan = plan or plan_round(cfg, num_examples=len(train), round_number=1, num_rounds=1)
    of_recipe = {f.name for f in fields(Recipe)} & given.keys()
    recipe = {"normalisation": HALF, "seed": 1} | {key: given.pop(key) for key in of_recipe}
    return fit(model, train, val, Recipe(training=cfg, **recipe), plan, **given)


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


# --- one step, by hand -----------------------------------------------------------------------


def test_one_sgd_step_of_logistic_regression() -> None:
    # w = b = 0, x = 2 and 4 with labels 1 and 0: p = 1/2; d/dw = mean(-2/2, 4/2) = 1/2, d/db = 0
    model = OnePixel()
    result = run(model, one_pixel([2, 4], [1, 0]), PLAIN, normalisation=IDENTITY)
    assert float(result.state["w"]) == pytest.approx(-0.5 * 0.5)
    assert float(result.state["b"]) == pytest.approx(0.0)
    assert result.train_loss == pytest.approx(math.log(2))
    assert (result.num_examples, result.num_batches, result.images_seen) == (2, 1, 2)
    assert result.epochs == 1.0
    assert not result.stopped_early
    assert result.optimizer_state is None
    assert float(model.w.detach()) == float(result.state["w"])


def test_class_weights_of_the_federation_enter_the_gradient() -> None:
    # weights 3 (class 0) and 1: d/dw = (1 * -1 + 3 * 2) / 4 = 5/4, d/db = (-1/2 + 3/2) / 4 = 1/4
    cfg = replace(PLAIN, class_weights="balanced")
    data = one_pixel([2, 4], [1, 0])
    result = run(OnePixel(), data, cfg, normalisation=IDENTITY, class_weights=(3.0, 1.0))
    assert float(result.state["w"]) == pytest.approx(-0.5 * 5 / 4)
    assert float(result.state["b"]) == pytest.approx(-0.5 / 4)


def test_without_a_federation_balanced_weights_are_the_sites_own() -> None:
    # three images of class 0, one of class 1: weights 2/3 and 2, so d/db = (3 * 2/3 - 2)/8 = 0
    data = one_pixel([1, 1, 1, 1], [0, 0, 0, 1])
    balanced = run(OnePixel(), data, replace(PLAIN, class_weights="balanced"))
    plain = run(OnePixel(), data, PLAIN, class_weights=(2 / 3, 2.0))
    assert float(balanced.state["b"]) == pytest.approx(0.0, abs=1e-7)
    assert float(plain.state["b"]) == pytest.approx(-0.5 * 0.25)


def test_gradient_clip_scales_the_step() -> None:
    result = run(
        OnePixel(),
        one_pixel([2, 4], [1, 0]),
        replace(PLAIN, gradient_clip=0.1),
        normalisation=IDENTITY,
    )
    assert float(result.state["w"]) == pytest.approx(-0.5 * 0.1, rel=1e-4)


def test_proximal_term_starts_at_zero_and_then_pulls_back() -> None:
    # Two epochs: the first step is the plain one, the second is pulled back by lr mu (w1 - w0).
    data, cfg = one_pixel([2, 4], [1, 0]), replace(PLAIN, local_epochs=2)
    plain = run(OnePixel(), data, cfg, normalisation=IDENTITY)
    pulled = run(OnePixel(), data, replace(cfg, proximal_mu=0.2), normalisation=IDENTITY)
    difference = float(pulled.state["w"] - plain.state["w"])
    assert difference == pytest.approx(0.5 * 0.2 * 0.25, rel=1e-5)


def test_proximal_term_leaves_frozen_weights_alone() -> None:
    model = OnePixel(weight=2.0)
    model.w.requires_grad_(False)
    cfg, data = replace(PLAIN, proximal_mu=1.0, local_epochs=2), one_pixel([0, 0], [1, 0])
    assert float(run(model, data, cfg).state["w"]) == 2.0


def test_weight_decay_acts_on_matrices_only() -> None:
    # no gradient: w = 2 - 0.5 * 0.1 * 2, b stays (its gradient is 0 by symmetry at p = 1/2)
    model = OnePixel(weight=2.0)
    result = run(
        model, one_pixel([0, 0], [1, 0]), replace(PLAIN, weight_decay=0.1), normalisation=IDENTITY
    )
    assert float(result.state["w"]) == pytest.approx(1.9)
    assert float(result.state["b"]) == 0.0


# --- the same again --------------------------------------------------------------------------


def test_same_seed_same_bits_and_the_global_generator_is_left_alone() -> None:
    data, cfg = random_images(30), replace(ADAMW, local_epochs=2)
    options: dict[str, Any] = {"augmentation": VARIED, "mixup": MixupConfig(probability=0.5)}
    before = torch.get_rng_state()
    first = run(small_net(), data, cfg, **options)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(11)
    second = run(small_net(), data, cfg, **options)
    other = run(small_net(), data, cfg, **options, seed=2)
    assert_same(first.state, second.state)
    assert first.train_loss == second.train_loss
    assert not torch.equal(first.state["classifier.weight"], other.state["classifier.weight"])


def test_worker_processes_do_not_change_the_result() -> None:
    data, cfg = random_images(30), replace(ADAMW, local_epochs=2)
    alone = run(small_net(), data, cfg, augmentation=VARIED)
    helped = run(small_net(), data, replace(cfg, workers=2), augmentation=VARIED)
    assert_same(alone.state, helped.state)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("sync", [0, 5])
def test_two_rounds_with_kept_state_are_one_training(optimizer: str, sync: int) -> None:
    """With `sync` 5, rounds end within an epoch of 4 batches and its order goes on."""
    data = random_images(30)
    cfg = replace(
        ADAMW, optimizer=optimizer, momentum=0.9, optimizer_state="keep", sync_every_n_batches=sync
    )
    total = 2 * (sync or 4)
    whole = run(
        small_net(), data, cfg, augmentation=VARIED, plan=LocalPlan(0, total, max_batches=total)
    )
    model, state = small_net(), None
    for number in (1, 2):
        plan = plan_round(cfg, num_examples=30, round_number=number, num_rounds=2)
        result = run(model, data, cfg, augmentation=VARIED, plan=plan, optimizer_state=state)
        state = result.optimizer_state
    assert_same(whole.state, result.state)
    assert whole.optimizer_state is not None
    assert state is not None
    assert_same(whole.optimizer_state, state)


def test_reset_forgets_the_optimisers_state() -> None:
    data, plan = random_images(16), LocalPlan(2, 8, max_batches=2)
    kept = run(small_net(), data, replace(ADAMW, optimizer_state="keep")).optimizer_state
    fresh = run(small_net(), data, ADAMW, plan=plan)
    given = run(small_net(), data, ADAMW, plan=plan, optimizer_state=kept)
    assert_same(fresh.state, given.state)


def test_state_is_a_copy_that_later_training_does_not_touch() -> None:
    model, data = small_net(), random_images(16)
    first = run(model, data, ADAMW)
    before = {name: value.clone() for name, value in first.state.items()}
    run(model, data, ADAMW)
    assert_same(first.state, before)
    assert all(value.is_contiguous() for value in first.state.values())


def test_channels_last_changes_the_layout_not_the_training() -> None:
    data, cfg = random_images(16), replace(PLAIN, learning_rate=0.1, min_learning_rate=0.1)
    model = small_net()
    columns = run(model, data, replace(cfg, channels_last=True))
    rows = run(small_net(), data, replace(cfg, channels_last=False))
    kernel = model.get_parameter("features.4.weight")
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(rows.state, columns.state, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_learns(precision: str) -> None:
    train, val = random_images(64), random_images(32, seed=9)
    cfg = replace(ADAMW, precision=precision, local_epochs=6, label_smoothing=0.05, warmup=0.3)
    result = run(small_net(), train, cfg, val, augmentation=VARIED)
    assert result.val is not None
    assert result.val.figures()["accuracy"] > 0.9


# --- early stopping --------------------------------------------------------------------------


def overfitting_site() -> tuple[LabelledImages, LabelledImages]:
    """Training pulls the bias up, the validation images have the other label."""
    return one_pixel([0, 0], [1, 1]), one_pixel([0, 0], [0, 0])


def test_stops_after_patience_epochs_and_returns_the_best_local_state() -> None:
    # The validation loss rises from the first epoch on: epochs 2 and 3 are no better, the state
    # after epoch 1 comes back: b = 0.5 * 1/2.
    train, val = overfitting_site()
    cfg = with_patience(replace(PLAIN, local_epochs=10), 2)
    model = OnePixel()
    result = run(model, train, cfg, val, normalisation=IDENTITY)
    assert result.stopped_early
    assert (result.num_batches, result.epochs) == (3, 3.0)
    assert float(result.state["b"]) == pytest.approx(0.25)
    assert float(model.b.detach()) == float(result.state["b"])
    assert result.val is not None
    assert result.val.figures()["loss"] == pytest.approx(math.log(1 + math.exp(0.25)), rel=1e-5)


def test_the_incoming_state_is_not_a_candidate() -> None:
    train, val = overfitting_site()
    result = run(OnePixel(), train, with_patience(replace(PLAIN, local_epochs=3), 2), val)
    assert float(result.state["b"]) > 0


def test_an_improving_site_trains_to_the_end() -> None:
    train, _ = overfitting_site()
    cfg = with_patience(replace(PLAIN, local_epochs=4), 1)
    result = run(OnePixel(), train, cfg, train)
    assert result.num_batches == 4
    assert not result.stopped_early


def test_patience_that_runs_out_at_the_very_end_is_no_early_stop() -> None:
    train, val = overfitting_site()
    result = run(OnePixel(), train, with_patience(replace(PLAIN, local_epochs=3), 2), val)
    assert result.num_batches == 3
    assert not result.stopped_early


def test_monitor_mcc_keeps_the_first_of_equals() -> None:
    train, val = overfitting_site()
    cfg = with_patience(replace(PLAIN, local_epochs=5), 1, monitor="mcc")
    result = run(OnePixel(), train, cfg, val, normalisation=IDENTITY)
    assert result.stopped_early
    assert float(result.state["b"]) == pytest.approx(0.25)


def test_kept_optimizer_state_is_that_of_the_best_epoch() -> None:
    train, val = overfitting_site()
    cfg = replace(
        with_patience(replace(PLAIN, local_epochs=10, momentum=0.9), 2), optimizer_state="keep"
    )
    result = run(OnePixel(), train, cfg, val, normalisation=IDENTITY)
    assert result.optimizer_state is not None
    # after one step the momentum buffer is that step's gradient, -1/2
    assert float(result.optimizer_state["b/momentum_buffer"]) == pytest.approx(-0.5)


def test_without_early_stopping_the_last_state_is_validated_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, val = overfitting_site()
    biases = []

    def counting(model: OnePixel, data: LabelledImages, **options: object) -> Evaluation:
        biases.append(float(model.b.detach()))
        return evaluate(model, data, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(fit_module, "evaluate", counting)
    result = run(OnePixel(), train, replace(PLAIN, local_epochs=3), val, normalisation=IDENTITY)
    assert biases == [float(result.state["b"])]
    assert result.val is not None
    assert result.val.figures()["loss"] == pytest.approx(
        math.log(1 + math.exp(biases[0])), rel=1e-5
    )


# --- guards ----------------------------------------------------------------------------------


def test_a_loss_that_is_nan_is_said_so() -> None:
    cfg = replace(PLAIN, learning_rate=1e30, min_learning_rate=1e30, local_epochs=3)
    with pytest.raises(PrimiaError, match=r"loss became (nan|inf).*learning_rate=1e\+30.*lower"):
        run(small_net(), random_images(16), cfg)


def test_weights_broken_by_the_last_step_are_not_handed_on() -> None:
    model = OnePixel(bias=3.0e38)
    cfg = replace(PLAIN, learning_rate=1e38, min_learning_rate=1e38)
    with pytest.raises(PrimiaError, match="became"):
        run(model, one_pixel([255, 255], [0, 0]), cfg, normalisation=IDENTITY)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_number_in_any_array_breaks_a_model(value: float) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    _check_weights(model.state_dict(), PLAIN)
    for broken in (model[0].weight, model[1].running_var, model[2].bias):
        with torch.no_grad():
            kept = broken.flatten()[-1].clone()
            broken.flatten()[-1] = value
            with pytest.raises(PrimiaError, match="weights became NaN or infinite"):
                _check_weights(model.state_dict(), PLAIN)
            broken.flatten()[-1] = kept
    _check_weights(model.state_dict(), PLAIN)


def test_no_training_images() -> None:
    with pytest.raises(DataError, match="no training images"):
        fit(
            small_net(),
            random_images(4).select([]),
            None,
            Recipe(PLAIN, HALF, seed=1),
            LocalPlan(0, 1, max_epochs=1),
        )


def test_batch_norm_and_batches_of_one() -> None:
    with pytest.raises(ConfigError, match=r"training.batch_size=1 .*batches of one image"):
        run(small_net(), random_images(4), replace(PLAIN, batch_size=1))
    run(OnePixel(), random_images(4), replace(PLAIN, batch_size=1))


def test_fp16_on_a_cpu() -> None:
    cfg = replace(PLAIN, device="auto", precision="fp16")
    with pytest.raises(ConfigError, match=r"training.precision=fp16 on a CPU"):
        run(small_net(), random_images(4), cfg, device=torch.device("cpu"))


def test_local_early_stopping_without_validation_images() -> None:
    cfg = with_patience(replace(PLAIN, local_epochs=3), 2)
    with pytest.raises(ConfigError, match=r"without validation images"):
        run(small_net(), random_images(8), cfg)


def test_a_plan_without_batches() -> None:
    with pytest.raises(ConfigError, match="has no batches"):
        run(small_net(), random_images(8), PLAIN, plan=LocalPlan(0, 1, max_batches=0))


def test_progress_ends_at_the_planned_batches() -> None:
    seen: list[Progress] = []
    cfg = replace(PLAIN, local_epochs=2)
    run(OnePixel(), random_images(20), cfg, on_progress=seen.append)
    assert (seen[-1].batch, seen[-1].num_batches) == (6, 6)
    assert seen[-1].images_per_second > 0
    assert math.isfinite(seen[-1].loss)
