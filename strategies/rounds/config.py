"""What the rounds need of an experiment."""

from dataclasses import dataclass
from typing import Self

from primia_flwr.config.experiment.data import NormalisationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import FederationStoppingConfig
from primia_flwr.config.load import config_hash
from primia_flwr.tasks.task import Task
from primia_flwr.training.stopping.early import Patience


@dataclass(frozen=True)
class LoopConfig:
    """What the loop needs of an experiment.

    `private`: the run claims differential privacy. Then nothing is asked of the sites but updates:
    no exact statistics, no validation; all rounds are run, and the last model is the result, or
    the average of the rounds' models with the weight `averaging` of the past. So it is where models
    are `sealed`. `relayed`: a round has steps, which are kept on the disk beside the checkpoints.
    `asynchronous`: what sites find of a model while they train is of different models; all validate
    every `validate_every` rounds, and at the end. `cross_site`: at the end each site's own model is
    validated at every site. `own_layers`: at the end each site is given the result, to save it with
    its own layers. `of_volumes`: channels are slices, which are alike. `classes`: their names;
    `levels`: of the fingerprint of volumes.
    """

    federation: FederationConfig
    stopping: FederationStoppingConfig
    normalisation: NormalisationConfig
    channels: int
    config_hash: str
    task: Task
    private: bool = False
    averaging: float = 0.0
    cross_site: bool = False
    relayed: bool = False
    sealed: bool = False
    asynchronous: bool = False
    validate_every: int = 0
    own_layers: bool = False
    of_volumes: bool = False
    classes: tuple[str, ...] = ()
    levels: tuple[float, float] = (0.0, 1.0)

    @property
    def reports_nothing(self) -> bool:
        """Whether the sites are asked for nothing but updates."""
        return self.private or self.sealed

    def validates(self, number: int) -> bool:
        """Say whether all sites validate the model of a round before the next one begins."""
        return self.validate_every > 0 and number % self.validate_every == 0

    def patience(self) -> Patience:
        """Return an early stopping that has seen no model yet."""
        return Patience(self.stopping.monitor, self.stopping.patience, self.stopping.min_delta)

    @classmethod
    def of(cls, experiment: Experiment) -> Self:
        """Take it from an experiment."""
        return cls(
            federation=experiment.federation,
            stopping=experiment.training.early_stopping.federation,
            normalisation=experiment.data.normalisation,
            channels=experiment.data.channels,
            config_hash=config_hash(experiment),
            task=experiment.task,
            private=bool(experiment.privacy.protected_unit),
            averaging=experiment.privacy.averaging,
            cross_site=experiment.crosses_sites,
            own_layers=experiment.model.keeps_layers,
            relayed=experiment.aggregation.relayed,
            sealed=experiment.aggregation.sealed,
            asynchronous=experiment.aggregation.asynchronous,
            validate_every=experiment.aggregation.validate_every,
            of_volumes=experiment.data.of_volumes,
            levels=(experiment.data.volumes.levels[0], experiment.data.volumes.levels[1]),
        )
