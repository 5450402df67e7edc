"""Real sites in one process: each message goes through the ClientApp with all its mods."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flwr.app import Error, Message, RecordDict

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import load_experiment, to_yaml
from primia_flwr.errors import PrimiaError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages.held import values_of
from primia_flwr.messages.records import to_arrays
from primia_flwr.models.frozen_arrays import frozen_of, without
from primia_flwr.pipeline.first_model import first_model
from primia_flwr.provisioning.identities import prepare_secure
from strategies.registry import build_aggregator
from strategies.rounds.config import LoopConfig
from strategies.rounds.loop import RoundLoop
from strategies.rounds.state import RunState
from tests.clients.handlers.test_answers import config_text, simulated
from tests.walks.answering import app


@dataclass
class AppSite:
    """One simulated site; `tricks` as those of a fake site, by kind and count."""

    name: str
    index: int
    text: str
    tricks: dict[tuple[str, int], Any] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def answer(self, message: Message) -> Message | None:
        kind = message.metadata.message_type
        self.seen.append(kind)
        trick = self.tricks.get((kind, self.seen.count(kind)))
        if isinstance(trick, BaseException):
            raise trick
        if trick is not None and not callable(trick):
            return None
        try:
            reply = app(message, simulated(self.text, self.index))
        except PrimiaError as error:
            return Message(Error(code=0, reason=str(error)), reply_to=message)
        return trick(reply, message) if trick else reply


def experiment_in(folder: Path, *overrides: str) -> Experiment:
    """The relay's experiment as the launcher writes it down, with identities for the sites."""
    asked = load_experiment(config_text(folder, "strategy=cyclic", *overrides))
    return replace(asked, aggregation=prepare_secure(asked, folder))


def sites_of(experiment: Experiment) -> dict[int, AppSite]:
    text = to_yaml(experiment)
    names = experiment.federation.sites
    return {10 + index: AppSite(name, index, text) for index, name in enumerate(names)}


def run(experiment: Experiment, fake: Any, folder: Path, *, resume: bool = False) -> RunState:
    """The loop of a run with the aggregator that its experiment asks for."""
    asked = replace(experiment, resume=str(folder) if resume else "")
    model = first_model(asked, 3)
    initial = values_of(to_arrays(model.state_dict()))
    aggregator = build_aggregator(
        asked,
        model=without(initial, frozen_of(asked.model, model)),
        parameters=[name for name, _ in model.named_parameters()],
        outputs=3,
        folder=folder,
        flower_run=1,
    )
    grid = RosterGrid(fake, asked.federation.sites)
    return RoundLoop(LoopConfig.of(asked), grid, aggregator, folder).run(initial, resume=resume)


def content_bytes(content: RecordDict) -> bytes:
    """All bytes of a message's records, one after the other."""
    parts = [array.data for record in content.array_records.values() for array in record.values()]
    for record in content.config_records.values():
        for key, value in record.items():
            parts += [key.encode(), value if isinstance(value, bytes) else repr(value).encode()]
    for metrics in content.metric_records.values():
        parts.append(repr(dict(metrics)).encode())
    return b"\0".join(parts)
