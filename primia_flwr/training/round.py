"""The loop of one round of local training: its clock, its checks and its early stopping."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.errors import ConfigError, DivergenceError
from primia_flwr.tasks.task import Evaluation
from primia_flwr.training.device import cpu_copy
from primia_flwr.training.loader import BatchPreparation
from primia_flwr.training.plan import LocalPlan, batches_an_epoch
from primia_flwr.training.schedules import learning_rate
from primia_flwr.training.step import TrainingStep
from primia_flwr.training.stopping.early import Patience

_SECONDS_BETWEEN_REPORTS = 0.5
# How the sentence of a site begins whose training broke down; a search knows its trial by it.
DIVERGED = "the training diverged"


@dataclass(frozen=True)
class Progress:
    """Where a round stands: batches done and planned, mean loss so far, speed."""

    batch: int
    num_batches: int
    loss: float
    images_per_second: float


@dataclass(frozen=True)
class FitResult:
    """What one round of local training gave.

    Attributes
    ----------
    state
        The model's state dict on the CPU, contiguous: the best local state with local early
        stopping, else the last.
    optimizer_state
        Named tensors for the next round; if `optimizer_state=reset` the loss scale alone with
        fp16, else None.
    train_loss
        Mean over the images of the round, in nats, smoothing and class weights included.
    num_examples
        The site's training images.
    num_batches
        Batches computed in this round.
    images_seen
        Images in those batches, repeats counted.
    epochs
        `num_batches` in passes over the images.
    stopped_early
        Whether local early stopping cut the round short.
    images_per_second
        Of training alone, validation left out.
    seconds
        Of the whole call.
    val
        `state` on the validation images.
    """

    state: dict[str, Tensor]
    optimizer_state: dict[str, Tensor] | None
    train_loss: float
    num_examples: int
    num_batches: int
    images_seen: int
    epochs: float
    stopped_early: bool
    images_per_second: float
    seconds: float
    val: Evaluation | None


@dataclass
class _Snapshot:
    batches: int
    state: dict[str, Tensor]
    optimizer_state: dict[str, Tensor] | None
    val: Evaluation | None


class Round:
    """The loop of one round, its clock, and its early stopping."""

    def __init__(
        self,
        model: nn.Module,
        cfg: TrainingConfig,
        plan: LocalPlan,
        *,
        num_examples: int,
        step: TrainingStep,
        prepare: BatchPreparation,
        validate: Callable[[], Evaluation] | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._model, self._cfg, self._plan = model, cfg, plan
        self._step, self._prepare, self._validate = step, prepare, validate
        self._on_progress = on_progress
        site = cfg.early_stopping.site
        self._patience = Patience(site.monitor, site.patience, site.min_delta)
        self._num_examples = num_examples
        self._an_epoch = batches_an_epoch(num_examples, cfg.batch_size)
        self.num_batches = plan.num_batches(self._an_epoch)
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=prepare.device)
        self._images = self._batches = 0
        self._validation_seconds = 0.0
        self._started = self._reported = time.monotonic()
        self._best: _Snapshot | None = None

    def run(self, batches: Iterable[tuple[Tensor, Tensor]]) -> FitResult:
        """Train on the round's batches, (images, labels), and gather the result."""
        self._model.train()
        for images, labels in batches:
            self._train_on(images, labels)
            ended = self._batches == self.num_batches
            if (self._batches % self._an_epoch == 0 or ended) and self._end_epoch(ended):
                break
        return self._result()

    def _train_on(self, images: Tensor, labels: Tensor) -> None:
        at = self._plan.start_step + self._batches
        rate = learning_rate(self._cfg, at, self._plan.total_steps)
        loss = self._step(*self._prepare(images, labels, at), rate)
        self._loss_sum.add_(loss, alpha=len(images))
        self._images += len(images)
        self._batches += 1
        if self._on_progress and time.monotonic() - self._reported > _SECONDS_BETWEEN_REPORTS:
            self._report()

    def _end_epoch(self, ended: bool) -> bool:
        """Validate where that is due; tell whether early stopping cuts the round short."""
        self._mean_loss()
        watching = self._cfg.early_stopping.site.patience > 0
        if not (watching or ended):
            return False
        state = {name: cpu_copy(value) for name, value in self._model.state_dict().items()}
        _check_weights(state, self._cfg)
        began = time.monotonic()
        evaluation = self._validate() if self._validate else None
        improved = evaluation is not None and self._patience.update(evaluation, self._batches)
        if improved or self._best is None or not watching:
            self._best = self._snapshot(state, evaluation)
        self._validation_seconds += time.monotonic() - began
        if self._on_progress:
            self._report()
        return self._patience.should_stop and not ended

    def _snapshot(self, state: dict[str, Tensor], evaluation: Evaluation | None) -> _Snapshot:
        return _Snapshot(self._batches, state, self._step.optimizer_state(), evaluation)

    def _result(self) -> FitResult:
        if self._best is None:
            raise ConfigError(
                f"the plan {self._plan} has no batches; expected max_epochs and max_batches above 0"
            )
        if self._best.batches != self._batches:
            self._model.load_state_dict(self._best.state)
        seconds = time.monotonic() - self._started
        return FitResult(
            state=self._best.state,
            optimizer_state=self._best.optimizer_state,
            train_loss=self._mean_loss(),
            num_examples=self._num_examples,
            num_batches=self._batches,
            images_seen=self._images,
            epochs=self._images / self._num_examples,
            stopped_early=self._batches < self.num_batches,
            images_per_second=self._images / max(seconds - self._validation_seconds, 1e-9),
            seconds=seconds,
            val=self._best.val,
        )

    def _mean_loss(self) -> float:
        """Wait for the device, and check that the training has not diverged."""
        loss = float(self._loss_sum) / self._images
        if not math.isfinite(loss):
            raise _diverged("training loss", f"{loss}", self._cfg)
        return loss

    def _report(self) -> None:
        if self._on_progress is None:
            return
        loss = self._mean_loss()
        self._reported = time.monotonic()
        seconds = self._reported - self._started - self._validation_seconds
        speed = self._images / max(seconds, 1e-9)
        self._on_progress(Progress(self._batches, self.num_batches, loss, speed))


def _check_weights(state: dict[str, Tensor], cfg: TrainingConfig) -> None:
    """Refuse to hand on a model that the last step has broken."""
    ends = [torch.aminmax(value) for value in state.values() if value.numel()]
    if not all(end.min.isfinite() and end.max.isfinite() for end in ends):  # both hand NaN on
        raise _diverged("weights", "NaN or infinite", cfg)


def _diverged(what: str, value: str, cfg: TrainingConfig) -> DivergenceError:
    return DivergenceError(
        f"{DIVERGED}: the {what} became {value} with training.learning_rate="
        f"{cfg.learning_rate} and training.precision={cfg.precision}; expected finite "
        "numbers; lower the learning rate, set training.gradient_clip=1.0, or use "
        "precision=fp32 or bf16"
    )
