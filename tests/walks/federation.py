"""A whole secure run in one process: the real halves of the app, and a grid of memory between."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context, Message, RecordDict

from clients.client_app import app
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse, to_yaml, without_sweep
from primia_flwr.pipeline.experiment import settle
from strategies.server_app import run
from tests.strategies.conftest import FakeGrid
from tests.walks.tracer import traced

SMALL = (
    "data.synthetic.patients=40", "data.image_size=32", "data.workers=1", "model=simpleconv",
    "training.batch_size=8", "training.threads=1", "federation.rounds=1", "tracking=disabled",
)  # fmt: skip


class Site:
    """A simulated site: the ClientApp answers what the grid brings.

    `walk`: of a train message. `sent`: the replies to such messages, as they leave.
    """

    def __init__(self, text: str, index: int) -> None:
        self.walk: list[str] = []
        self.sent: list[RecordDict] = []
        self._context = Context(
            run_id=1,
            node_id=index,
            node_config={"partition-id": index, "num-partitions": 3},
            state=RecordDict(),
            run_config={"config": text},
        )

    def answer(self, message: Message) -> Message:
        with traced() as found:
            reply = app(message, self._context)
        if message.metadata.message_type == "train":
            self.walk = self.walk or found
            self.sent.append(reply.content)
        return reply


def train_securely(folder: Path, *words: str) -> list[Site]:
    """Train one round of three simulated sites with secure aggregation, or as `words` have it."""
    words = (*SMALL, f"data.cache_dir={folder / 'cache'}", *words)
    composed = without_sweep(compose(overrides=list(words)))
    (folder / "run").mkdir(parents=True, exist_ok=True)
    experiment = settle(parse(Experiment, composed), folder / "run")
    sites = [Site(to_yaml(experiment), index) for index in range(3)]
    grid = FakeGrid({index + 1: site for index, site in enumerate(sites)})  # type: ignore[arg-type]
    run(experiment, grid, folder / "run", flower_run=1)
    return sites
