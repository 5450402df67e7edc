"""What a site trains, and how: the model, the optimiser, the schedule, the early stopping.

The comments in `conf/model/` and `conf/training/` explain each key to the person who sets it.
"""

import re
from dataclasses import dataclass, field

from primia_flwr.config.checks import check_choice, check_length, check_range
from primia_flwr.config.rows import MODELS
from primia_flwr.errors import ConfigError

NORMS = ("batch", "group", "none", "frozen")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_POOLS = ("avg", "max")
_TRAINABLE = ("all", "norm", "head", "lora")
_SHARED = ("all", "no_norm", "body")
_TEMPORAL = ("mean", "conv")
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "adagrad")
SCHEDULES = ("constant", "log_linear", "log_cosine", "one_cycle", "warm_restarts")
PRECISIONS = ("fp32", "bf16", "fp16")
_WEIGHT_SUFFIXES = (".safetensors", ".pth")


@dataclass
class ModelConfig:
    """The architecture and where its first weights come from.

    `scattering` has fixed filters and one linear layer: `norm`, `norm_groups`, `pool` and
    `weight_standardisation` mean nothing to it. With `norm` none (`models.norm_free`) kernels are
    always standardised: then `weight_standardisation` becomes true, whatever it was set to. `norm`
    frozen is a pre-trained model's batch norm, its statistics constants (`models.frozen_norm`).
    `temporal`: how `sequence` makes one answer of its frames' features; of no meaning to others.
    """

    name: str = "resnet18"
    norm: str = "batch"
    norm_groups: int = 32
    weight_standardisation: bool = False
    pool: str = "avg"
    weights: str = "none"
    trainable: str = "all"
    lora_rank: int = 8
    lora_alpha: float = 16.0
    shared: str = "all"
    temporal: str = "mean"

    def __post_init__(self) -> None:
        check_choice("model.name", self.name, MODELS)
        if self.temporal == "lstm":
            raise ConfigError(
                "model.temporal=lstm; expected mean or conv: an encrypted LSTM needs products of "
                "two shared numbers and piecewise linear gates, which encrypted inference has not"
            )
        check_choice("model.temporal", self.temporal, _TEMPORAL)
        check_choice("model.norm", self.norm, NORMS)
        check_choice("model.pool", self.pool, _POOLS)
        check_choice("model.trainable", self.trainable, _TRAINABLE)
        if self.trainable != "all" and self.weights == "none":
            raise ConfigError(
                f"model.trainable={self.trainable} with model.weights=none; random layers would "
                "stay as they are; give trained weights, e.g. model.weights=pretrained.safetensors"
            )
        if self.norm_groups not in (1, 2, 4, 8, 16, 32):
            raise ConfigError(
                f"model.norm_groups={self.norm_groups}; expected 1, 2, 4, 8, 16 or 32 "
                "(the models' channel counts are multiples of 32), e.g. 32"
            )
        self._check_norm()
        self._check_weights()
        self._check_lora()
        self._check_shared()

    @property
    def keeps_layers(self) -> bool:
        """Whether each site has layers of its own, which leave it in no message."""
        return self.shared != "all"

    @property
    def sends_all(self) -> bool:
        """Whether a site sends back every array of the model."""
        return self.trainable == "all" and not self.keeps_layers

    @property
    def adapted(self) -> bool:
        """Whether adapters of low rank are trained beside the layers."""
        return self.trainable == "lora"

    def _check_lora(self) -> None:
        check_range("model.lora_rank", self.lora_rank, 1, 1024, example=8)
        check_range("model.lora_alpha", self.lora_alpha, 0, 1024, example=16.0, open_low=True)
        if self.adapted and self.weight_standardisation:
            raise ConfigError(
                "model.trainable=lora with model.weight_standardisation=true; an adapter cannot be "
                "added to a kernel that is standardised at each use; set model.norm=group with "
                "model.weight_standardisation=false, model.norm=frozen or batch, or "
                "model.trainable=norm"
            )

    def _check_shared(self) -> None:
        check_choice("model.shared", self.shared, _SHARED)
        if self.shared == "body" and self.trainable == "head":
            raise ConfigError(
                "model.shared=body with model.trainable=head; nothing that is trained would be "
                "shared; set model.trainable=all, norm or lora, or model.shared=all"
            )
        if self.shared == "no_norm" and not MODELS[self.name].has_norm:
            raise ConfigError(
                f"model.shared=no_norm with model.name={self.name}, which has no norm layers; "
                "expected all or body, e.g. model.shared=body"
            )

    def _check_norm(self) -> None:
        # Every model has batch norm; the row of another one imports PyTorch.
        known = ("batch",) if self.norm == "batch" else MODELS[self.name].norms
        if self.norm not in known:
            raise ConfigError(
                f"model.norm={self.norm} with model.name={self.name}; expected "
                f"{' or '.join(known)}, e.g. model.norm={known[0]}"
            )
        if self.norm == "frozen" and self.weights == "none":
            raise ConfigError(
                "model.norm=frozen with model.weights=none; random layers have no statistics to "
                "keep; give pre-trained weights, e.g. model.weights=imagenet"
            )
        if self.norm == "none":
            self.weight_standardisation = True
        if self.weight_standardisation and self.norm in ("batch", "frozen"):
            raise ConfigError(
                f"model.weight_standardisation=true with model.norm={self.norm}; standardised "
                "kernels go with group norm or without a norm; set model.norm=group or none, or "
                "model.weight_standardisation=false"
            )

    def _check_weights(self) -> None:
        if self.weights == "imagenet":
            if not MODELS[self.name].has_imagenet:
                raise ConfigError(
                    f"model.weights=imagenet with model.name={self.name}; expected a model that "
                    "has ImageNet weights, e.g. model.name=resnet18"
                )
            if self.norm not in ("batch", "frozen"):
                raise ConfigError(
                    f"model.weights=imagenet with model.norm={self.norm}; ImageNet weights belong "
                    "to batch norm; set model.norm=batch or frozen, or give a file trained with "
                    f"model.norm={self.norm}"
                )
        elif self.weights != "none" and not self.weights.endswith(_WEIGHT_SUFFIXES):
            raise ConfigError(
                f"model.weights={self.weights}; expected none, imagenet, or a file ending in "
                f"{' or '.join(_WEIGHT_SUFFIXES)}, e.g. model.weights=resnet18.safetensors"
            )


@dataclass
class SiteStoppingConfig:
    """Early stopping within one site's round; `patience` 0 switches it off."""

    monitor: str = "loss"
    patience: int = 0
    min_delta: float = 0.0
    retire_after: int = 0

    def __post_init__(self) -> None:
        key = "training.early_stopping.site"
        check_range(f"{key}.patience", self.patience, 0, example=2)
        check_range(f"{key}.min_delta", self.min_delta, 0, example=0.001)
        check_range(f"{key}.retire_after", self.retire_after, 0, example=3)
        if self.retire_after and not self.patience:
            raise ConfigError(
                f"{key}.retire_after={self.retire_after} with {key}.patience=0; a site retires "
                f"only after early stops; set {key}.patience to 1 or more, or retire_after=0"
            )


@dataclass
class FederationStoppingConfig:
    """Early stopping of the whole run, and the choice of the best round; patience 0 is off.

    `monitor`: a metric of the task, or `objective` for the one that is its objective.
    """

    monitor: str = "objective"
    patience: int = 0
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        key = "training.early_stopping.federation"
        check_range(f"{key}.patience", self.patience, 0, example=5)
        check_range(f"{key}.min_delta", self.min_delta, 0, example=0.001)


@dataclass
class EarlyStoppingConfig:
    """Both kinds of early stopping: at each site within a round, and over the rounds."""

    site: SiteStoppingConfig = field(default_factory=SiteStoppingConfig)
    federation: FederationStoppingConfig = field(default_factory=FederationStoppingConfig)


@dataclass
class TrainingConfig:
    """How a site trains between two synchronisations."""

    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    min_learning_rate: float = 1e-6
    schedule: str = "one_cycle"
    warmup: float = 0.3
    cycles: int = 4
    momentum: float = 0.9
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    weight_decay: float = 0.05
    optimizer_state: str = "reset"
    batch_size: int = 32
    local_epochs: int = 1
    sync_every_n_batches: int = 0
    class_weights: str = "none"
    label_smoothing: float = 0.0
    gradient_clip: float = 0.0
    proximal_mu: float = 0.0
    precision: str = "fp32"
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = False
    device: str = "auto"
    workers: int = 0
    threads: int = 0
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)

    def __post_init__(self) -> None:
        self._check_optimizer()
        self._check_rounds()
        check_choice("training.class_weights", self.class_weights, ("none", "balanced"))
        check_range(
            "training.label_smoothing", self.label_smoothing, 0, 1, example=0.1, open_high=True
        )
        check_range("training.gradient_clip", self.gradient_clip, 0, example=1.0)
        check_range("training.proximal_mu", self.proximal_mu, 0, example=0.01)
        check_choice("training.precision", self.precision, PRECISIONS)
        self._check_device()
        check_range("training.workers", self.workers, 0, 256, example=4)
        check_range("training.threads", self.threads, 0, 1024, example=0)

    def _check_device(self) -> None:
        if not _DEVICE.fullmatch(self.device):
            raise ConfigError(
                f"training.device={self.device}; expected auto, cpu, cuda or one device by its "
                "number, e.g. cuda:1"
            )
        if self.precision == "fp16" and self.device == "cpu":
            raise ConfigError(
                "training.precision=fp16 with training.device=cpu; fp16 needs a GPU; "
                "set training.precision=fp32 or bf16"
            )

    def _check_optimizer(self) -> None:
        check_choice("training.optimizer", self.optimizer, OPTIMIZERS)
        rate = self.learning_rate
        check_range("training.learning_rate", rate, 0, example=1e-3, open_low=True)
        last, low = self.min_learning_rate, rate / 100
        check_range("training.min_learning_rate", last, 0, rate, example=low, open_low=True)
        check_choice("training.schedule", self.schedule, SCHEDULES)
        check_range("training.warmup", self.warmup, 0, 1, example=0.1, open_high=True)
        check_range("training.cycles", self.cycles, 1, 10_000, example=4)
        check_range("training.momentum", self.momentum, 0, 1, example=0.9, open_high=True)
        check_length("training.betas", self.betas, 2, 2, example="[0.9,0.999]")
        for beta in self.betas:
            check_range("training.betas", beta, 0, 1, example=0.9, open_high=True)
        check_range("training.weight_decay", self.weight_decay, 0, example=0.05)
        check_choice("training.optimizer_state", self.optimizer_state, ("reset", "keep"))

    def _check_rounds(self) -> None:
        check_range("training.batch_size", self.batch_size, 1, 65536, example=32)
        check_range("training.local_epochs", self.local_epochs, 1, 10_000, example=1)
        check_range("training.sync_every_n_batches", self.sync_every_n_batches, 0, example=50)
        patience = self.early_stopping.site.patience
        if patience and not self.sync_every_n_batches and patience >= self.local_epochs:
            raise ConfigError(
                f"training.early_stopping.site.patience={patience} with "
                f"training.local_epochs={self.local_epochs} can never stop a site; expected a "
                f"patience below the local epochs, e.g. training.local_epochs={patience + 1}"
            )
