"""The experiment: one tree of dataclasses that the whole federation agrees on."""

import re
from dataclasses import dataclass, field

from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.experiment.deployment import DeploymentConfig
from primia_flwr.config.experiment.federation import ClientConfig, FederationConfig, StrategyConfig
from primia_flwr.config.experiment.guarantee import check_guarantee
from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.config.experiment.report import ReportConfig
from primia_flwr.config.experiment.search import SearchConfig
from primia_flwr.config.experiment.tracking import TrackingConfig
from primia_flwr.config.experiment.training import ModelConfig, TrainingConfig
from primia_flwr.errors import ConfigError

BASELINES = ("alone", "pooled")


@dataclass
class Experiment:
    """All that decides the result of a run.

    `output_dir` and `resume` are folders on the coordinator's machine. `baselines` asks a
    simulation to also train each site alone and all sites pooled, with as many image passes.
    """

    name: str = "demo"
    seed: int = 1
    output_dir: str = ""
    resume: str = ""
    dry_run: bool = False
    quiet: bool = False
    baselines: list[str] = field(default_factory=list)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    client: ClientConfig = field(default_factory=ClientConfig)
    deployment: DeploymentConfig = field(default_factory=DeploymentConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    search: SearchConfig = field(default_factory=SearchConfig)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", self.name):
            raise ConfigError(
                f"name={self.name!r}; expected 1 to 64 letters, digits, '.', '_' or '-', "
                "e.g. pneumonia"
            )
        check_range("seed", self.seed, 0, 2**32 - 1, example=1)
        for baseline in self.baselines:
            check_choice("baselines", baseline, BASELINES)
        self._check_strategy()
        check_guarantee(
            self.privacy,
            data=self.data,
            model=self.model,
            training=self.training,
            strategy=self.strategy,
        )
        if self.search.enabled:
            from primia_flwr.config.search.searched import check_search

            check_search(self)

    def _check_strategy(self) -> None:
        mu, liars = self.training.proximal_mu, self.strategy.num_malicious
        if self.strategy.name == "fedprox" and mu == 0:
            raise ConfigError(
                f"training.proximal_mu={mu} with strategy.name=fedprox; expected a number above "
                "0, e.g. training.proximal_mu=0.01"
            )
        secure = self.strategy.secure
        if self.strategy.cross_site and self.privacy.enabled:
            raise ConfigError(
                f"strategy.cross_site=true with privacy.mode={self.privacy.mode}; expected false: "
                "a private run sends no validation counts, because each would cost privacy of its "
                "own"
            )
        if secure.enabled and self.federation.min_sites < secure.min_survivors:
            raise ConfigError(
                f"federation.min_sites={self.federation.min_sites} with "
                f"strategy.secure.min_survivors={secure.min_survivors}; expected at least as "
                f"many; set federation.min_sites={secure.min_survivors}"
            )
        if secure.audit and self.deployment.kind != "simulation":
            raise ConfigError(
                "strategy.secure.audit=true in a deployment; expected false: an audit reads the "
                "update of every site, which only a simulation may"
            )
        if self.strategy.record_received and self.deployment.kind != "simulation":
            raise ConfigError(
                "strategy.record_received=true in a deployment; expected false: it writes what "
                "each site sent to the coordinator's disk, which only a simulation may"
            )
        needed = 2 * liars + 3  # Blanchard et al. 2017: n >= 2 f + 3
        if self.strategy.name == "krum" and liars > 0 and self.federation.min_sites < needed:
            raise ConfigError(
                f"strategy.num_malicious={liars} with "
                f"federation.min_sites={self.federation.min_sites}; krum needs 2*{liars}+3 "
                f"updates in every round; set federation.min_sites={needed} or more"
            )
