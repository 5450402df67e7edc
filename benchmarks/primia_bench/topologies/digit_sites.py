"""Sites in one process, each with a part of scikit-learn's digits and a small network.

They answer the coordinator's own messages, so that what is compared is the product's aggregators
and rules; only the training at a site is short enough to be repeated hundreds of times.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from sklearn.datasets import load_digits
from torch import Tensor, nn

from primia_flwr.messages.held import held, values_of
from primia_flwr.messages.packing import unpack_content
from primia_flwr.messages.records import load_arrays, put_evaluation, to_arrays
from primia_flwr.secagg.payload.layout import round_to_digits
from primia_flwr.tasks.classification import TASK
from primia_flwr.tasks.task import Evaluation

CLASSES = 10
_Images = tuple[Tensor, Tensor]


def network(seed: int) -> nn.Module:
    """Return a network of one hidden layer with weights by a seed."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, CLASSES))


def digits(seed: int) -> tuple[_Images, _Images]:
    """Return training and test images, 1,297 and 500, by a seed."""
    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    images = torch.tensor(data.data[order] / 16, dtype=torch.float32)
    labels = torch.tensor(data.target[order], dtype=torch.int64)
    return (images[500:], labels[500:]), (images[:500], labels[:500])


def dealt(train: _Images, sites: int, *, dirichlet: float, seed: int) -> list[_Images]:
    """Deal images to sites: evenly (0), or each class by shares drawn from a Dirichlet law."""
    draw, labels = np.random.default_rng(seed), train[1].numpy()
    if not dirichlet:
        parts: list[list[int]] = [p.tolist() for p in np.array_split(np.arange(len(labels)), sites)]
    else:
        parts = [[] for _ in range(sites)]
        for label in range(CLASSES):
            found = np.flatnonzero(labels == label)
            cuts = np.cumsum(draw.dirichlet([dirichlet] * sites))[:-1] * len(found)
            for part, more in zip(parts, np.split(found, cuts.astype(int)), strict=True):
                part.extend(more.tolist())
        spare = max(parts, key=len)
        for part in parts:  # nobody has nothing
            while len(part) < 4:
                part.append(spare.pop())
    return [(train[0][part], train[1][part]) for part in parts]


def trained(
    model: nn.Module, data: _Images, *, epochs: int, seed: int, batch: int = 16
) -> nn.Module:
    """Train a network by plain SGD, in place, and return it."""
    draw = torch.Generator().manual_seed(seed)
    step = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(data[1]), generator=draw), batch):
            step.zero_grad()
            loss = nn.functional.cross_entropy(model(data[0][rows]), data[1][rows])
            torch.autograd.backward(loss)
            step.step()
    return model


def evaluation(model: nn.Module, data: _Images) -> Evaluation:
    """Return what a network is on some images."""
    with torch.no_grad():
        loss, counts = TASK.measure(model(data[0]), data[1])
    return Evaluation(TASK, loss, len(data[1]), counts)


@dataclass
class DigitSite:
    """One site: an eighth of its images validates, the rest trains `epochs` times a round.

    `digits`: significant ones of its weight, as in secure sums; 0: all.
    """

    name: str
    data: _Images
    epochs: int
    seed: int
    digits: int = 0

    def __post_init__(self) -> None:
        cut = max(1, len(self.data[1]) // 8)
        self.val = (self.data[0][:cut], self.data[1][:cut])
        self.train = (self.data[0][cut:], self.data[1][cut:])

    def answer(self, message: Message) -> Message:
        """Validate what comes; train it where that is asked."""
        model = network(0)
        load_arrays(model, message.content.array_records["arrays"])
        metrics = MetricRecord({"num-examples": len(self.train[1])})
        put_evaluation(metrics, "incoming", evaluation(model, self.val))
        records: dict[str, Any] = {"metrics": metrics, "site": ConfigRecord({"name": self.name})}
        if message.metadata.message_type == "train":
            number = message.content.config_records["config"]["server-round"]
            assert isinstance(number, int)
            trained(model, self.train, epochs=self.epochs, seed=self.seed * 1000 + number)
            count = len(self.train[1])
            count = round_to_digits(count, self.digits) if self.digits else count
            metrics.update({"weight": float(count), "num-batches": 1, "train-loss": 0.0})
            records["arrays"] = to_arrays(model.state_dict())
        return Message(RecordDict(records), reply_to=message)


class DigitGrid(Grid):
    """Flower's grid for such sites."""

    def __init__(self, sites: list[DigitSite]) -> None:
        for name in ("_run_id", "_node_id", "_task_id"):
            setattr(TaskIdentity, name, 1)
        self.sites = dict(enumerate(sites, 1))
        self._replies: dict[str, Message] = {}
        self._count = 0

    def set_run(self, run: Run) -> None:
        """Do nothing: there is one run."""

    @property
    def run(self) -> Run:
        """There is none."""
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """Nobody asks for it."""
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        """Return all sites."""
        return list(self.sites)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Answer at once."""
        ids = []
        for message in messages:
            self._count += 1
            ids.append(f"m{self._count}")
            message.metadata.__dict__["_message_id"] = ids[-1]
            unpack_content(message)
            self._replies[ids[-1]] = self.sites[message.metadata.dst_node_id].answer(message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Give the answers."""
        return [self._replies.pop(one) for one in message_ids if one in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Nobody asks for it."""
        raise NotImplementedError


def arrays_of(model: nn.Module) -> dict[str, npt.NDArray[Any]]:
    """Return a network's arrays by name."""
    return values_of(to_arrays(model.state_dict()))


def network_of(arrays: dict[str, npt.NDArray[Any]]) -> nn.Module:
    """Return the network of arrays."""
    model = network(0)
    record: ArrayRecord = held(arrays)
    load_arrays(model, record)
    return model
