"""Many sites in one process: the real halves of the app, and a grid that loses messages.

What is not here is the network: no TLS, no SuperLink, no process a message. What a lost message
costs in time is the round's timeout, as in a federation.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from clients.client_app import app
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse, to_yaml, without_sweep
from primia_flwr.data.dataset import load_test
from primia_flwr.models.saved import load_model
from primia_flwr.pipeline.experiment import settle
from primia_flwr.tasks.classes.scores import score
from primia_flwr.training.device import pick_device
from primia_flwr.training.evaluate import predict
from primia_flwr.training.normalisation import Normalisation
from strategies.server_app import run

POINTS = ("before", "in", "after")  # of its training, at which a site fails


@dataclass
class Failing:
    """Which share of the sites fails in a round, each at a point drawn anew."""

    share: float
    seed: int
    drawn: dict[tuple[int, str], str] = field(default_factory=dict)

    def point(self, node: int, group: str) -> str:
        """Return the point at which a site fails in a round, or nothing."""
        if (node, group) not in self.drawn:
            rng = np.random.default_rng([self.seed, node, int(group)])
            fails = rng.random() < self.share
            self.drawn[node, group] = POINTS[rng.integers(len(POINTS))] if fails else ""
        return self.drawn[node, group]


class LossyGrid(Grid):
    """Sites in memory, some of whose answers are lost.

    `before`: a site does not get the round's model. `in`: its update is lost. `after`: the update
    arrives, and the next thing that it is asked is lost.
    """

    def __init__(self, text: str, sites: int, failing: Failing) -> None:
        self._failing, self.lost = failing, dict.fromkeys(POINTS, 0)
        self._silent: set[int] = set()
        self._replies: dict[str, Message] = {}
        self._count = 0
        self._contexts = {
            node: Context(
                run_id=1,
                node_id=node,
                node_config={"partition-id": node - 1, "num-partitions": sites},
                state=RecordDict(),
                run_config={"config": text},
            )
            for node in range(1, sites + 1)
        }

    def get_node_ids(self) -> list[int]:
        """Return all: whether a site fails shows only when it is asked."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Have each site answer, or lose the message or the answer."""
        ids = []
        for message in messages:
            self._count += 1
            message.metadata.__dict__["_message_id"] = f"m{self._count}"
            ids.append(message.metadata.message_id)
            reply = self._answer(message)
            if reply is not None:
                self._replies[message.metadata.message_id] = reply
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the answers that are there."""
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def _answer(self, message: Message) -> Message | None:
        node, train = message.metadata.dst_node_id, message.metadata.message_type == "train"
        point = self._failing.point(node, message.metadata.group_id) if train else ""
        if node in self._silent and not train:
            self._silent.discard(node)
            return None
        if point:
            self.lost[point] += 1
        if point == "before":
            return None
        reply = app(message, self._contexts[node])
        if point == "after":
            self._silent.add(node)
        return None if point == "in" else reply

    def set_run(self, run: Any) -> None:
        """Do nothing: there is one run."""

    @property
    def run(self) -> Any:
        """Return nothing."""

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """Refuse: messages are made by the aggregators."""
        raise NotImplementedError

    def send_and_receive(self, *args: Any, **kwargs: Any) -> list[Message]:
        """Refuse: nobody asks."""
        raise NotImplementedError


def train(folder: Path, words: list[str], failing: Failing) -> tuple[Experiment, Any, LossyGrid]:
    """Train in this process; return the experiment, the run's last state, and what was lost."""
    for name in ("run_id", "node_id", "task_id"):
        setattr(TaskIdentity, name, 1)
    os.fsync = _at_once
    folder.mkdir(parents=True)
    experiment = settle(parse(Experiment, without_sweep(compose(overrides=words))), folder)
    grid = LossyGrid(to_yaml(experiment), len(experiment.federation.sites), failing)
    return experiment, run(experiment, grid, folder, flower_run=1), grid


def _at_once(fd: Any) -> None:
    """Do not wait for the disk: of a hundred sites on one disk nothing is to be learned."""


def final_mcc(experiment: Experiment, folder: Path) -> float:
    """Return the MCC of a run's final model on the test images."""
    return round(final_figures(experiment, folder)["mcc"], 4)


def final_figures(experiment: Experiment, folder: Path) -> dict[str, float]:
    """Return MCC and ROC-AUC of a run's final model on the test images."""
    model, card = load_model(folder)
    test = load_test(experiment.data, seed=experiment.seed)
    probabilities = predict(
        model,
        test,
        normalisation=Normalisation(card.mean, card.std),
        batch_size=128,
        device=pick_device("cpu"),
    )
    found = score(test.labels.numpy(), probabilities, experiment.data.classes)
    return {"mcc": float(found.mcc), "roc_auc": float(found.roc_auc or 0.0)}
