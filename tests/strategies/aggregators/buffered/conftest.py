"""Buffered rounds in memory: the real coordinator, the real site code, and a clock that skips."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict

from clients.mods.buffered import answer_buffer
from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.config.load import to_yaml
from primia_flwr.flower import roster_grid
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.provisioning.identities import prepare_secure
from strategies.registry import build_aggregator
from strategies.rounds import participation
from strategies.rounds.config import LoopConfig
from strategies.rounds.loop import RoundLoop
from tests.strategies.aggregators.asynchronous.slow_grid import Clock, SlowGrid
from tests.strategies.aggregators.secure.test_aggregator import SecureSite

SITES = ["berlin", "london", "munich", "oslo", "paris", "rome"]


class BufferedSite(SecureSite):
    """A fake site behind the real client mod, which answers for a buffer, too."""

    def _answer(self, message: Message) -> Message:
        if message.metadata.message_type == "query.buffer":
            return answer_buffer(message, self.context)
        return super()._answer(message)


@dataclass
class Run:
    """A federation in memory; its sites take their time."""

    experiment: Experiment
    fake: SlowGrid
    model: Any
    folder: Path

    @property
    def sites(self) -> dict[str, BufferedSite]:
        return {site.name: site for site in self.fake.sites.values()}

    def loop(self, *, resume: bool = False) -> Any:
        asked = replace(self.experiment, resume=str(self.folder) if resume else "")
        for site in self.sites.values():
            if isinstance(site, BufferedSite):
                site.context.run_config = {"config": to_yaml(asked)}
        aggregator = build_aggregator(
            asked, model=self.model, parameters=["w"], outputs=2, folder=self.folder, flower_run=1
        )
        self.aggregator = aggregator
        grid = RosterGrid(self.fake, asked.federation.sites)
        self.loop_ = RoundLoop(LoopConfig.of(asked), grid, aggregator, self.folder)
        return self.loop_.run(self.model, resume=resume)

    def rows(self, number: int) -> dict[str, tuple[str, int | None]]:
        found = [row for row in self.loop_._record.history.sites if row.round == number]
        return {row.site: (row.status, row.staleness) for row in found}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(roster_grid, "time", clock)
    monkeypatch.setattr(participation, "time", clock)
    return clock


@pytest.fixture
def federation(tmp_path, make_site, clock, model):
    """Return a function that makes a run: of `count` sites that take so long, by name."""

    def build(takes=None, *, count=6, rounds=4, rule="fedavg", folder="run", min_sites=3, **how):
        names, place = SITES[:count], tmp_path / folder
        place.mkdir()
        federation = FederationConfig(
            rounds=rounds, sites=names, min_sites=min_sites, round_timeout=1000, wait_for_sites=0.05
        )
        settings = {"name": "buffered", "buffer": 3, "max_weight": 100, **how}
        asked = Experiment(
            output_dir=str(place),
            federation=federation,
            strategy=StrategyConfig(name=rule),
            aggregation=AggregationConfig(**settings),
        )
        experiment = replace(asked, aggregation=prepare_secure(asked, place))
        sites: dict[int, Any] = {}
        for index, name in enumerate(names):
            plain = make_site(name, target=1.3 * index + 0.1, weight=10.0 * (index + 1), var=1.0)
            node = {"partition-id": index}
            context = Context(1, index, node, RecordDict(), {"config": to_yaml(experiment)})
            masked = experiment.aggregation.secure
            sites[11 + index] = BufferedSite(plain, context) if masked else plain
        slow = {11 + names.index(name): seconds for name, seconds in (takes or {}).items()}
        return Run(experiment, SlowGrid(sites, clock, slow), model, place)

    return build
