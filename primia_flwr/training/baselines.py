"""What the federation is compared with: all images at one place, and each site by itself.

Both are given as many image passes as the federated run and keep the best round by the same
monitor on validation images.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn

from primia_flwr.config.experiment.training import (
    EarlyStoppingConfig,
    SiteStoppingConfig,
    TrainingConfig,
)
from primia_flwr.data.dataset import SiteData
from primia_flwr.tasks.task import Evaluation
from primia_flwr.training.fit import FitResult, fit
from primia_flwr.training.plan import plan_round
from primia_flwr.training.recipe import Recipe
from primia_flwr.training.stopping.early import Patience


@dataclass(frozen=True)
class BaselineRound:
    """One stretch of central training, as long as a federated round."""

    number: int
    num_rounds: int
    train_loss: float
    val: Evaluation | None
    images_seen: int
    images_per_second: float
    seconds: float

    @classmethod
    def of(cls, result: FitResult, number: int, num_rounds: int) -> "BaselineRound":
        """Keep the figures of one stretch, without its weights."""
        return cls(
            number,
            num_rounds,
            result.train_loss,
            result.val,
            result.images_seen,
            result.images_per_second,
            result.seconds,
        )


@dataclass(frozen=True)
class _BaselineResult:
    """The best state (on the CPU), its round and validation, and all rounds."""

    state: dict[str, Tensor]
    best_round: int
    val: Evaluation | None
    rounds: tuple[BaselineRound, ...]


_OnRound = Callable[[BaselineRound], None]


def train_centralised(
    model: nn.Module,
    data: SiteData,
    recipe: Recipe,
    *,
    num_sites: int,
    num_rounds: int,
    on_round: _OnRound | None = None,
) -> _BaselineResult:
    """Train on the union of all sites' images, as if no border were between them.

    With `sync_every_n_batches` a federated round is that many batches at each of `num_sites`
    sites: here it is their sum. The parameters are those of `train_local`.
    """
    cfg = recipe.training
    longer = replace(cfg, sync_every_n_batches=cfg.sync_every_n_batches * num_sites)
    recipe = replace(recipe, training=longer)
    return train_local(model, data, recipe, num_rounds=num_rounds, on_round=on_round)


def train_local(
    model: nn.Module,
    data: SiteData,
    recipe: Recipe,
    *,
    num_rounds: int,
    on_round: _OnRound | None = None,
) -> _BaselineResult:
    """Train on one site's images without a federation: one training in `num_rounds` stretches.

    Parameters
    ----------
    model : nn.Module
        The same first weights as the federation's; trained in place, ends with the best.
    data : SiteData
        Training and validation images.
    recipe : Recipe
        As in the federation. The optimiser's state is kept, the proximal term and the local
        early stopping are off: there is nothing to synchronise with.
    num_rounds : int
        Of the federated run.
    on_round : callable, optional
        Called after each round.

    Raises
    ------
    PrimiaError
        As `fit`.
    """
    recipe = replace(recipe, training=_central(recipe.training))
    stopping = recipe.training.early_stopping.federation
    patience = Patience(stopping.monitor, stopping.patience, stopping.min_delta)
    optimizer_state: dict[str, Tensor] | None = None
    best_state: dict[str, Tensor] = {}
    rounds: list[BaselineRound] = []
    for number in range(1, num_rounds + 1):
        plan = plan_round(
            recipe.training,
            num_examples=len(data.train),
            round_number=number,
            num_rounds=num_rounds,
        )
        result = fit(model, data.train, data.val, recipe, plan, optimizer_state=optimizer_state)
        optimizer_state = result.optimizer_state
        rounds.append(BaselineRound.of(result, number, num_rounds))
        if result.val is None or patience.update(result.val, number) or not best_state:
            best_state, best_round = result.state, number
        if on_round:
            on_round(rounds[-1])
        if patience.should_stop:
            break
    model.load_state_dict(best_state)
    return _BaselineResult(best_state, best_round, rounds[best_round - 1].val, tuple(rounds))


def _central(cfg: TrainingConfig) -> TrainingConfig:
    """Return the configuration without what only makes sense between synchronisations."""
    stopping = EarlyStoppingConfig(SiteStoppingConfig(), cfg.early_stopping.federation)
    return replace(cfg, optimizer_state="keep", proximal_mu=0.0, early_stopping=stopping)
