"""A federation in memory: real Flower messages, answered by functions in place of sites."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from primia_flwr.flower import roster_grid
from primia_flwr.messages.packing import unpack_content
from strategies.rounds import participation
from tests.faults.skipped_time import SkippedTime

MODEL = {
    "w": np.array([0.0, 0.0], dtype=np.float32),
    "bn.running_var": np.array([1.0], dtype=np.float32),
}
PARAMETERS = ("w",)


def pack(arrays):
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def unpack(record):
    return {name: array.numpy() for name, array in record.items()}


@dataclass
class FakeSite:
    """A site with a target: it goes half the way from the incoming `w` to its target.

    Its validation has 10 images of two classes; `right` says how many are predicted right for
    a given w. `tricks` maps (kind, nth message of the kind) to a function that may change,
    drop (None) or replace the answer.
    """

    name: str
    target: float = 1.0
    weight: float = 1.0
    var: float = 1.0
    right: Callable[[np.ndarray], int] = lambda w: 5
    tricks: dict = field(default_factory=dict)
    always: Callable | None = None
    seen: list = field(default_factory=list)
    rounds: list = field(default_factory=list)

    def answer(self, message):
        kind = message.metadata.message_type
        self.seen.append(kind)
        content = getattr(self, f"_{kind.split('.')[0]}")(message)
        trick = self.tricks.get((kind.split(".")[0], self.seen.count(kind))) or self.always
        answer = trick(content, message) if trick else content
        if answer is None:
            return None
        if isinstance(answer, Error):
            return Message(answer, reply_to=message)
        return Message(answer, reply_to=message)

    def _site(self):
        return ConfigRecord({"name": self.name})

    def _query(self, message):
        # Two images of one class each, 4 pixels in all: 0, 0, 1, `target` clipped into [0, 1].
        last = min(max(self.target, 0.0), 1.0)
        metrics = MetricRecord(
            {
                "count": [4.0],
                "total": [1.0 + last],
                "total_squares": [1.0 + last**2],
                "label_counts": [1.0, 1.0],
                "side_counts": [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0],
                "num-val": 10,
            }
        )
        return RecordDict({"metrics": metrics, "site": self._site()})

    def _verdict(self, w):
        right = self.right(w)
        return {
            "incoming-loss-sum": float(10 - right),
            "incoming-num-examples": 10,
            "incoming-confusion": [right // 2, 0, 10 - right, right - right // 2],
        }

    def _train(self, message):
        arrays = unpack(message.content["arrays"])
        self.rounds.append(message.content["config"]["server-round"])
        w = arrays["w"] + np.float32(0.5) * (np.float32(self.target) - arrays["w"])
        new = {"w": w, "bn.running_var": np.full(1, self.var, dtype=np.float32)}
        metrics = MetricRecord(
            {
                "weight": float(self.weight),
                "num-examples": 20,
                "num-batches": 2,
                "epochs": 1.0,
                "train-loss": float(abs(self.target)),
                "images-per-second": 100.0,
                "seconds": 0.2,
                "stopped-early": 0,
                **self._verdict(arrays["w"]),
            }
        )
        return RecordDict({"arrays": pack(new), "metrics": metrics, "site": self._site()})

    def _evaluate(self, message):
        w = unpack(message.content["arrays"])["w"]
        metrics = MetricRecord({"num-examples": 10, **self._verdict(w)})
        return RecordDict({"metrics": metrics, "site": self._site()})


class FakeGrid(Grid):
    """Flower's grid for sites in memory. `order` reorders the replies; `offline` hides nodes."""

    def __init__(self, sites: dict[int, FakeSite]):
        self.sites = dict(sites)
        self.offline: set[int] = set()
        self.order = list
        self.asked: list[tuple[int, str]] = []
        self.on_look: Callable[[], None] = lambda: None
        self._replies: dict[str, Message] = {}
        self._count = 0

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def create_message(self, *args, **kwargs):
        raise NotImplementedError

    def get_node_ids(self):
        self.on_look()
        return [node for node in self.sites if node not in self.offline]

    def push_messages(self, messages: Iterable[Message]):
        ids = []
        for message in messages:
            self._count += 1
            message.metadata.__dict__["_message_id"] = f"m{self._count}"
            node = message.metadata.dst_node_id
            self.asked.append((node, message.metadata.message_type))
            if node in self.offline:
                continue
            ids.append(message.metadata.message_id)
            unpack_content(message)
            reply = self.sites[node].answer(message)
            if reply is not None:
                self._replies[message.metadata.message_id] = reply
        return ids

    def pull_messages(self, message_ids):
        return self.order([self._replies.pop(i) for i in message_ids if i in self._replies])

    def send_and_receive(self, messages, *, timeout=None):
        raise NotImplementedError


@pytest.fixture(autouse=True, scope="module")
def _fast_and_in_a_run():
    """No waiting, not for the disk either; the identity that Flower gives every ServerApp."""
    with pytest.MonkeyPatch.context() as patch:
        hasten(patch)
        yield


def hasten(monkeypatch):
    """No waiting, not for the disk either; the identity that Flower gives every app."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    clock = SkippedTime()
    monkeypatch.setattr(participation, "time", clock)
    monkeypatch.setattr(roster_grid, "time", clock)
    monkeypatch.setattr(participation, "GRACE", 0.0)
    monkeypatch.setattr(participation, "ASK_AGAIN", 0.0)
    monkeypatch.setattr(TaskIdentity, "_run_id", 1)
    monkeypatch.setattr(TaskIdentity, "_node_id", 1)
    monkeypatch.setattr(TaskIdentity, "_task_id", 1)


@pytest.fixture
def make_site():
    return FakeSite


@pytest.fixture
def make_grid():
    return FakeGrid


@pytest.fixture(scope="session")
def grid_of():
    """The same for fixtures that live longer than a test."""
    return FakeGrid


@pytest.fixture
def model():
    return {name: array.copy() for name, array in MODEL.items()}
