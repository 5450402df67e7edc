"""Train a model for one round on one site's images."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.tasks.task import Evaluation
from primia_flwr.training.device import compute_settings, derive_seed, pick_device, place
from primia_flwr.training.evaluate import evaluate
from primia_flwr.training.loader import BatchPreparation, training_batches
from primia_flwr.training.plan import LocalPlan, batches_an_epoch
from primia_flwr.training.recipe import Recipe
from primia_flwr.training.round import FitResult, Progress, Round
from primia_flwr.training.step import TrainingStep

__all__ = ["FitResult", "Progress", "fit"]


def fit(
    model: nn.Module,
    train: LabelledImages,
    val: LabelledImages | None,
    recipe: Recipe,
    plan: LocalPlan,
    *,
    optimizer_state: Mapping[str, Tensor] | None = None,
    correction: Mapping[str, Tensor] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> FitResult:
    """Train for one round. Given the seed, the same on the CPU bit for bit.

    Parameters
    ----------
    model : nn.Module
        Moved to the device and trained in place; ends with the returned state.
    train, val : LabelledImages
        Of one site. Without `val` the round is not validated.
    recipe : Recipe
        How to train.
    plan : LocalPlan
        Which steps this round takes.
    optimizer_state : mapping of name to tensor, optional
        Of the round before, as `FitResult.optimizer_state` returned it.
    correction : mapping of name to tensor, optional
        What is added to the gradients of these parameters in every step.
    on_progress : callable, optional
        Called about twice a second.

    Raises
    ------
    ConfigError
        If the configuration cannot work on this device or with these images.
    DataError
        If there are no training images.
    DivergenceError
        If the loss or the weights become NaN or infinite.
    """
    cfg = recipe.training
    device = recipe.device or pick_device(cfg.device)
    _check(model, train, val, cfg, device)
    seed = derive_seed(recipe.seed, "fit", plan.start_step)
    with compute_settings(device, seed=seed, threads=cfg.threads, deterministic=cfg.deterministic):
        place(model, device, channels_last=cfg.channels_last)
        loss = train.task.loss(cfg, _class_weights(recipe, train))
        step = TrainingStep(
            model, cfg, device, loss=loss, optimizer_state=optimizer_state, correction=correction
        )
        a_round = Round(
            model,
            cfg,
            plan,
            num_examples=len(train),
            step=step,
            prepare=BatchPreparation(recipe, device, train),
            validate=_validation(model, val, recipe, device),
            on_progress=on_progress,
        )
        steps = range(plan.start_step, plan.start_step + a_round.num_batches)
        return a_round.run(training_batches(train, recipe, steps, pin_memory=device.type == "cuda"))


def _check(
    model: nn.Module,
    train: LabelledImages,
    val: LabelledImages | None,
    cfg: TrainingConfig,
    device: torch.device,
) -> None:
    if len(train) == 0:
        raise DataError(
            "there are no training images; expected at least two; see primia data check"
        )
    if cfg.precision == "fp16" and device.type == "cpu":
        raise ConfigError(
            "training.precision=fp16 on a CPU; expected a GPU; set training.precision=fp32 or bf16"
        )
    if cfg.early_stopping.site.patience and (val is None or len(val) == 0):
        raise ConfigError(
            f"training.early_stopping.site.patience={cfg.early_stopping.site.patience} without "
            "validation images; expected some; raise data.val_fraction or set patience=0"
        )
    _check_batches(model, train, cfg)


def _check_batches(model: nn.Module, train: LabelledImages, cfg: TrainingConfig) -> None:
    smallest = len(train) // batches_an_epoch(len(train), cfg.batch_size)
    if smallest == 1 and any(
        isinstance(m, (nn.BatchNorm2d, nn.BatchNorm3d)) for m in model.modules()
    ):
        raise ConfigError(
            f"training.batch_size={cfg.batch_size} with {len(train)} training images makes "
            "batches of one image, which batch norm cannot use; expected two or more; raise "
            "training.batch_size or set model.norm=group or none"
        )


def _class_weights(recipe: Recipe, train: LabelledImages) -> Sequence[float] | None:
    if recipe.training.class_weights == "none":
        return None
    return recipe.class_weights or train.task.label_weights(train.label_counts())


def _validation(
    model: nn.Module, val: LabelledImages | None, recipe: Recipe, device: torch.device
) -> Callable[[], Evaluation] | None:
    if val is None or len(val) == 0:
        return None
    return partial(
        evaluate,
        model,
        val,
        normalisation=recipe.normalisation,
        batch_size=recipe.training.batch_size,
        device=device,
        precision=recipe.training.precision,
    )
