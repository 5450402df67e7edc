"""Train a model for one round on one site's images."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from primia_flwr.config.data import AugmentationConfig, MixupConfig
from primia_flwr.config.training import TrainingConfig
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.training.device import compute_settings, derive_seed, pick_device
from primia_flwr.training.evaluate import evaluate
from primia_flwr.training.loader import BatchPreparation, training_batches
from primia_flwr.training.loss import balanced_weights
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.plan import LocalPlan, batches_an_epoch
from primia_flwr.training.round import FitResult, Progress, Round
from primia_flwr.training.step import TrainingStep

__all__ = ["FitResult", "Progress", "fit"]


def fit(
    model: nn.Module,
    train: LabelledImages,
    val: LabelledImages | None,
    cfg: TrainingConfig,
    *,
    normalisation: Normalisation,
    seed: int,
    plan: LocalPlan,
    augmentation: AugmentationConfig | None = None,
    mixup: MixupConfig | None = None,
    global_state: Mapping[str, Tensor] | None = None,
    optimizer_state: Mapping[str, Tensor] | None = None,
    class_weights: Sequence[float] | None = None,
    device: torch.device | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> FitResult:
    """Train for one round. Given the seed, the same on the CPU bit for bit.

    Parameters
    ----------
    model : nn.Module
        Moved to the device and trained in place; ends with the returned state.
    train, val : LabelledImages
        Of one site. Without `val` the round is not validated.
    cfg : TrainingConfig
        How to train.
    normalisation : Normalisation
        Of the pixels, over the federation.
    seed : int
        Of the experiment and the site: orders and augments the images.
    plan : LocalPlan
        Which steps this round takes.
    augmentation, mixup : optional
        Random changes of the training images.
    global_state : mapping of name to tensor, optional
        The centre of the proximal term; the model as it arrives if not given.
    optimizer_state : mapping of name to tensor, optional
        Of the round before, as `FitResult.optimizer_state` returned it.
    class_weights : sequence of float, optional
        For `class_weights=balanced`: of the federation; from `train` alone if not given.
    device : torch.device, optional
        Overrules `cfg.device`.
    on_progress : callable, optional
        Called about twice a second.

    Raises
    ------
    ConfigError
        If the configuration cannot work on this device or with these images.
    DataError
        If there are no training images.
    PrimiaError
        If the loss or the weights become NaN or infinite.
    """
    device = device or pick_device(cfg.device)
    _check(model, train, val, cfg, device)
    with compute_settings(
        device,
        seed=derive_seed(seed, "fit", plan.start_step),
        threads=cfg.threads,
        deterministic=cfg.deterministic,
    ):
        model.to(device)
        if cfg.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        step = TrainingStep(
            model,
            cfg,
            device,
            class_weights=_class_weights(cfg, class_weights, train),
            optimizer_state=optimizer_state if cfg.optimizer_state == "keep" else None,
            global_state=global_state,
        )
        a_round = Round(
            model,
            cfg,
            plan,
            num_examples=len(train),
            step=step,
            prepare=BatchPreparation(cfg, normalisation, mixup, device, seed, len(train.classes)),
            validate=None
            if val is None or len(val) == 0
            else partial(
                evaluate,
                model,
                val,
                normalisation=normalisation,
                batch_size=cfg.batch_size,
                device=device,
                precision=cfg.precision,
            ),
            on_progress=on_progress,
        )
        return a_round.run(
            training_batches(
                train,
                batch_size=cfg.batch_size,
                seed=seed,
                start_step=plan.start_step,
                num_batches=a_round.num_batches,
                augmentation=augmentation,
                workers=cfg.workers,
                pin_memory=device.type == "cuda",
            )
        )


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
    smallest = len(train) // batches_an_epoch(len(train), cfg.batch_size)
    if smallest == 1 and any(isinstance(m, nn.BatchNorm2d) for m in model.modules()):
        raise ConfigError(
            f"training.batch_size={cfg.batch_size} with {len(train)} training images makes "
            "batches of one image, which batch norm cannot use; expected two or more; raise "
            "training.batch_size or set model.norm=group"
        )


def _class_weights(
    cfg: TrainingConfig, given: Sequence[float] | None, train: LabelledImages
) -> Sequence[float] | None:
    if cfg.class_weights == "none":
        return None
    if given is not None:
        return given
    return balanced_weights(train.class_counts())
