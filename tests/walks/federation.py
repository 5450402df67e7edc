"""A whole secure run in one process: the real halves of the app, and a grid of memory between."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, RecordDict

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse, to_yaml, without_sweep
from primia_flwr.pipeline.experiment import settle
from strategies.server_app import run
from tests.strategies.conftest import FakeGrid
from tests.walks.answering import app
from tests.walks.tracer import Walk, traced

SMALL = (
    "data.synthetic.patients=40", "data.image_size=32", "data.workers=1", "model=simpleconv",
    "training.batch_size=8", "training.threads=1", "federation.rounds=1", "tracking=disabled",
)  # fmt: skip


class Site:
    """A simulated site: the ClientApp answers what the grid brings.

    `sent`: the replies to train messages, as they leave; those of the numbers in `lost`, from 1,
    arrive nowhere. `walk`: of the first train message, where it is `walked`, which takes as long
    again.
    """

    def __init__(
        self,
        text: str,
        index: int,
        lost: Collection[int] = (),
        *,
        sites: int = 3,
        walked: bool = False,
    ) -> None:
        self.walk, self._walked = Walk(), walked
        self.sent: list[RecordDict] = []
        self.lost = lost
        self._index, self._sites = index, sites
        self.tell(text)

    def tell(self, text: str) -> None:
        """Have it know a run's configuration."""
        self._context = Context(
            run_id=1,
            node_id=self._index,
            node_config={"partition-id": self._index, "num-partitions": self._sites},
            state=RecordDict(),
            run_config={"config": text},
        )

    def answer(self, message: Message) -> Message | None:
        kind = message.metadata.message_type
        asked = self._walked and kind == "train" and not self.walk
        with traced() if asked else nullcontext(self.walk) as self.walk:
            reply = app(message, self._context)
        if kind == "train":
            self.sent.append(reply.content)
            if len(self.sent) in self.lost:
                return None
        return reply


class Federation:
    """Three simulated sites and what they have been told; `run` may be called anew, to go on."""

    def __init__(
        self, folder: Path, *words: str, lost: Collection[int] = (), walked: bool = False
    ) -> None:
        """`lost`: of the first site's replies to train messages; `walked`: of all sites."""
        words = (*SMALL, f"data.cache_dir={folder / 'cache'}", *words)
        composed = without_sweep(compose(overrides=list(words)))
        self.folder = folder / "run"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.experiment = settle(parse(Experiment, composed), self.folder)
        text = to_yaml(self.experiment)
        self.sites = [Site(text, index, () if index else lost, walked=walked) for index in range(3)]

    def run(self, *, resume: bool = False) -> None:
        """Run the coordinator to its end."""
        resumed = str(self.folder) if resume else ""
        nodes: Any = {index + 1: site for index, site in enumerate(self.sites)}
        experiment = replace(self.experiment, resume=resumed)
        for site in self.sites:
            site.tell(to_yaml(experiment))
        run(experiment, FakeGrid(nodes), self.folder, flower_run=1)


def train_securely(folder: Path, *words: str, walked: bool = False) -> list[Site]:
    """Train one round of three simulated sites with secure aggregation, or as `words` have it."""
    federation = Federation(folder, *words, walked=walked)
    federation.run()
    return federation.sites
