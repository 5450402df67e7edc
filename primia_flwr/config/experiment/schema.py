"""The experiment: one tree of dataclasses that the whole federation agrees on."""

import re
from dataclasses import dataclass, field
from typing import Any

from primia_flwr.config.asynchronous import check_asynchronous
from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.config.experiment.aggregation import GIVES, AggregationConfig
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.experiment.debug import DebugConfig
from primia_flwr.config.experiment.deployment import DeploymentConfig
from primia_flwr.config.experiment.federation import ClientConfig, FederationConfig
from primia_flwr.config.experiment.guarantee import check_guarantee
from primia_flwr.config.experiment.own_layers import check_own_layers
from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.config.experiment.report import ReportConfig
from primia_flwr.config.experiment.search import SearchConfig
from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.config.experiment.tracking import TrackingConfig
from primia_flwr.config.experiment.training import ModelConfig, TrainingConfig
from primia_flwr.config.rows import MODELS, TASKS
from primia_flwr.config.rules import Need
from primia_flwr.config.sealed import check_sealed
from primia_flwr.config.sharing import check_sharing
from primia_flwr.errors import ConfigError

BASELINES = ("local", "ensemble", "centralised")
_OF_NO_MODEL = "each site validates a model of its own, and the counts of all are of none of them"


@dataclass
class Experiment:
    """All that decides the result of a run.

    `output_dir` and `resume` are folders on the coordinator's machine. `resume_rounds`: how many
    rounds the resumed run shall have in all; 0: as many as it was begun with. `baselines` asks a
    simulation to also train each site on its own images (`local`), to average these models'
    probabilities (`ensemble`), and to train one model on all sites' images in one place
    (`centralised`), with as many image passes.
    """

    name: str = "demo"
    seed: int = 1
    output_dir: str = ""
    resume: str = ""
    resume_rounds: int = 0
    dry_run: bool = False
    quiet: bool = False
    baselines: list[str] = field(default_factory=list)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    aggregation: AggregationConfig = field(default_factory=AggregationConfig)
    debug: DebugConfig = field(default_factory=DebugConfig)
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
        check_range("federation.rounds", self.resume_rounds, 0, 10_000, example=100)
        check_range("seed", self.seed, 0, 2**32 - 1, example=1)
        for baseline in self.baselines:
            check_choice("baselines", baseline, BASELINES)
        self._check_task()
        self._check_frames()
        self._check_monitors()
        check_asynchronous(self)
        self._check_rule()
        self._check_secure()
        check_sealed(self)
        self._check_debug()
        check_sharing(self)
        check_own_layers(self)
        check_guarantee(self)

    @property
    def task(self) -> Any:
        """The task, as `primia_flwr.tasks` has it."""
        return TASKS[self.data.task]

    @property
    def trains_on_synthetic(self) -> bool:
        """Whether all images are drawn by formula; real sites have what their files hold."""
        own = self.deployment.kind == "simulation" or self.deployment.trial
        return own and self.data.layout == "synthetic"

    @property
    def largest_weight(self) -> int:
        """w_max, by which the fixed point scales updates; 1 where all weigh alike."""
        return 1 if self.strategy.weighting == "equal" else self.aggregation.max_weight

    @property
    def reports_nothing(self) -> bool:
        """Whether sites report nothing but their updates: no statistics, no validation."""
        return self.privacy.enabled or self.aggregation.sealed

    @property
    def crosses_sites(self) -> bool:
        """Whether each site's own model is validated at the others at the end."""
        return self.debug.cross_site or self.strategy.vote == "insulearn"

    @property
    def shows_single_updates(self) -> bool:
        """Whether a site can tell from two models that it gets what one other site has sent.

        Of two updates it subtracts its own.
        """
        least = min(self.aggregation.buffer, self.federation.min_sites)
        return self.aggregation.asynchronous and least < 3

    @property
    def seen_words(self) -> str:
        """Who saw the sites' models or updates, as a sentence; nothing of ordinary means."""
        if self.aggregation.buffered:
            least = self.aggregation.min_survivors
            mixed = ", of models of different rounds" if self.aggregation.mixed_rounds else ""
            return (
                f"Buffered rounds: the coordinator saw sums over at least {least} sites"
                f"{mixed}, and when each site's update was ready"
            )
        if self.aggregation.asynchronous:
            own = "noisy update" if self.privacy.enabled else "update"
            also = ", and another site could tell one site's" if self.shows_single_updates else ""
            return f"Asynchronous rounds: the coordinator saw every site's {own}{also}"
        if self.strategy.keeps_models:
            also = " and, at the end, every other site" if self.crosses_sites else ""
            return f"Ensemble: the coordinator{also} saw each site's model"
        if self.crosses_sites:
            who = "the coordinator and, at the end, every other site"
            return f"Plain averaging: {who} saw each model"
        return self.aggregation.relay_words

    def num_sent(self, entries: int) -> int:
        """Return how many numbers a site sends of an update of `entries` into a mean."""
        aggregation = self.aggregation
        if self.strategy.rule.variates:
            return 2 * entries
        return entries if aggregation.share_by == "own" else aggregation.num_shared(entries)

    @property
    def sends_a_vector(self) -> bool:
        """Whether a site sends numbers in place of the arrays of a model."""
        return self.aggregation.shares_a_part or self.strategy.rule.variates

    def _check_task(self) -> None:
        if not self.task.counts_patients:
            return
        for found, where, why in (
            (
                self.reports_nothing, "in a run whose sites report no validation",
                "sets of classes need counts of validation patients, which a private run or a "
                "sealed relay does not send",
            ),
            (self.strategy.keeps_models, f"with strategy.name={self.strategy.name}", _OF_NO_MODEL),
            (self.model.keeps_layers, f"with model.shared={self.model.shared}", _OF_NO_MODEL),
        ):  # fmt: skip
            if found:
                raise ConfigError(
                    f"data.task={self.data.task} {where}; expected another task, e.g. "
                    f"task=classification: {why}"
                )

    def _check_frames(self) -> None:
        # The row of a model imports PyTorch, so it is asked of sequences only.
        if self.data.frames > 1 and not MODELS[self.model.name].sequences:
            raise ConfigError(
                f"data.frames={self.data.frames} with model.name={self.model.name}; expected a "
                "model that reads sequences, e.g. model=sequence, or data.frames=1"
            )

    def _check_monitors(self) -> None:
        stopping = self.training.early_stopping
        metrics = [*(metric.name for metric in self.task.metrics), "objective"]
        for scope, monitor in (
            ("site", stopping.site.monitor),
            ("federation", stopping.federation.monitor),
        ):
            check_choice(f"training.early_stopping.{scope}.monitor", monitor, metrics)

    def _check_rule(self) -> None:
        name, rule, aggregation = self.strategy.name, self.strategy.rule, self.aggregation
        if rule.needs not in GIVES[aggregation.name]:
            able = " or ".join(way for way, given in GIVES.items() if rule.needs in given)
            raise ConfigError(
                f"strategy.name={name} with aggregation.name={aggregation.name}; {name} needs "
                f"{rule.needs.value}, which this aggregation does not show; set "
                f"aggregation={able or 'another'}, or take a rule that needs only the mean, e.g. "
                "strategy=fedavg"
            )
        rule.check(rule.read(self.strategy.options), self)

    def _check_secure(self) -> None:
        aggregation, federation = self.aggregation, self.federation
        if federation.min_sites < aggregation.least_sites:
            raise ConfigError(
                f"federation.min_sites={federation.min_sites} with "
                f"aggregation.min_survivors={aggregation.min_survivors}; expected at least as "
                f"many; set federation.min_sites={aggregation.min_survivors}"
            )

    def _check_debug(self) -> None:
        debug, aggregation = self.debug, self.aggregation
        if debug.verify_sums and not aggregation.secure:
            raise ConfigError(
                f"debug.verify_sums=true with aggregation.name={aggregation.name}; expected false, "
                "or aggregation=secure: without masks there is no sum to verify"
            )
        if debug.cross_site and Need.EACH_UPDATE not in GIVES[aggregation.name]:
            raise ConfigError(
                f"debug.cross_site=true with aggregation.name={aggregation.name}; expected "
                "aggregation=plain: the cross-site matrix needs each site's own model and its own "
                "counts, which other ways of aggregation do not show"
            )
        for key, does in (
            ("verify_sums", "reads the update of every site"),
            ("record_received", "writes what each site sent to the coordinator's disk"),
        ):
            if getattr(debug, key) and self.deployment.kind != "simulation":
                raise ConfigError(
                    f"debug.{key}=true in a deployment; expected false: it {does}, which only a "
                    "simulation may"
                )
