"""The seam between the rounds and how a round's result is learned from the sites.

`RoundLoop` decides who is asked, when to repeat and when to stop; an `Aggregator` talks to the
sites and turns their answers into one result. The plain one sees every update; another may see
sums only. It may send as many messages a round as it needs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ConfigRecord

from primia_flwr.data.statistics import PixelSums
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.runs.checkpoint import ArrayMap
from primia_flwr.runs.cross_site import FEDERATED
from primia_flwr.runs.history import EVALUATED, OK, SiteRow
from primia_flwr.tasks.task import Evaluation, Task

OnRow = Callable[[SiteRow], None]


@dataclass(frozen=True)
class Request:
    """What a round asks of every selected site.

    `arrays`: the global model, float tensors only. `config`: without the round's number.
    `timeout` in seconds. `min_updates`: with fewer good updates nothing is aggregated, so that
    the round can be repeated.
    """

    server_round: int
    arrays: ArrayMap
    config: ConfigRecord
    timeout: float
    min_updates: int = 1


@dataclass(frozen=True)
class SiteModel:
    """What a site sent for averaging: its own model after its training in `server_round`."""

    server_round: int
    arrays: ArrayMap


@dataclass(frozen=True)
class Statistics:
    """What the federation's training images are like, summed over the sites that were asked.

    `num_val`: their validation images.
    """

    sums: PixelSums
    num_val: int


@dataclass
class Outcome:
    """What a round brought.

    `arrays`: the new global model, None if there were too few updates. `validation`: of the
    model that was sent, summed over the sites; `validations`: the same of each site by its name,
    nothing where the aggregator sees sums only. `wait_for`: sites without which a repetition
    cannot succeed. `rows`: one for each site that was asked.
    `declined`: sites whose numbers are out of range, where only their count is seen.
    `resting`: sites that do not train any more, or would rather not. `training_seconds`: time
    in which at least one site was busy; `images`: trained on.
    """

    rows: list[SiteRow] = field(default_factory=list)
    arrays: ArrayMap | None = None
    validation: Evaluation | None = None
    validations: dict[str, Evaluation] = field(default_factory=dict)
    train_loss: float | None = None
    wait_for: list[str] = field(default_factory=list)
    declined: int = 0
    resting: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    training_seconds: float = 0.0
    images: float = 0.0

    def count(self, *statuses: str) -> int:
        """Return how many sites have one of the statuses; without statuses, the good ones."""
        wanted = statuses or (OK, EVALUATED)
        return sum(row.status in wanted for row in self.rows)


class Aggregator(ABC):
    """How the coordinator learns the result of a round.

    `task`: whose evaluations the sites send; `outputs`: the width of the model's last layer.
    """

    task: Task
    outputs: int

    @abstractmethod
    def introduce(
        self, grid: RosterGrid, nodes: list[int], *, timeout: float, enough: int = 0
    ) -> dict[int, SiteRow | None]:
        """Ask nodes for their names, and introduce those that answer well to the grid.

        `enough`: as of `RosterGrid.ask`.

        Returns
        -------
        dict
            By node: None, or a row (round 0) that says why it is not introduced.
        """

    @abstractmethod
    def statistics(self, grid: RosterGrid, *, timeout: float) -> Statistics:
        """Return the statistics of the sites that the grid has selected.

        Raises
        ------
        FederationError
            If too few of them answer.
        """

    @abstractmethod
    def sites(self) -> list[dict[str, Any]]:
        """Return what the coordinator knows of each site, `site` (its name) at least."""

    @abstractmethod
    def train(self, request: Request, grid: RosterGrid, on_row: OnRow) -> Outcome:
        """Have the selected sites validate and train, and aggregate what they send."""

    @abstractmethod
    def evaluate(self, request: Request, grid: RosterGrid, on_row: OnRow) -> Outcome:
        """Have the selected sites validate a model; `arrays` of the outcome is None."""

    def site_models(self) -> dict[str, SiteModel]:
        """Return the last model that each site sent; nothing where none is kept or seen."""
        return {}

    def compared(self, best: ArrayMap, best_round: int) -> dict[str, SiteModel]:
        """Return the models that every site shall validate at the end, by name."""
        models = {FEDERATED: SiteModel(best_round, best)}
        return models | dict(sorted(self.site_models().items()))

    @abstractmethod
    def state(self) -> ArrayMap:
        """Return what must outlive a crash of the coordinator, for the checkpoint."""

    @abstractmethod
    def load_state(self, state: ArrayMap) -> None:
        """Take back what `state` returned."""
