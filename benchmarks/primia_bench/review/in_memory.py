"""`primia` whose simulated sites answer in this process: no Ray, no SuperLink, no network.

    python -m primia_bench.review.in_memory '{"failing": 0.25}' train experiment=demo

`failing`: share of a round's sites that fail, each before, in or after its training. `dies_in`: the
round in which the process is killed, as its first site is asked to train. `boost`: how many times
the first site sends its update. The processor seconds of the federated part are written into the
run's folder, and how many answers were lost.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity
from torch import Tensor, nn

from clients.handlers import train as plain_handler
from clients.handlers.local_round import train_round
from clients.handlers.message import arrived_model
from clients.mods import dp_update
from primia_bench.topologies.in_memory import Failing, LossyGrid
from primia_flwr.cli.main import run as run_command
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import to_yaml
from primia_flwr.pipeline import lost
from primia_flwr.runs.metadata import read_json
from strategies.server_app import run

LOST = "lost.json"
LIAR = "site-1"


class MortalGrid(LossyGrid):
    """A grid with which the process is killed in a round, once the round before has been kept."""

    dies_in, folder = 0, Path()

    def _answer(self, message: Message) -> Message | None:
        metadata = message.metadata
        if metadata.message_type == "train" and metadata.group_id == str(self.dies_in):
            while not list((self.folder / "checkpoints").glob("checkpoint-[0-9]*")):
                time.sleep(0.01)  # it is written beside the round
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._answer(message)


def boosted(
    start: Mapping[str, Tensor], end: Mapping[str, Tensor], times: float
) -> dict[str, Tensor]:
    """Return the model that lies `times` as far from the start as a training's end does."""
    return {
        name: start[name] + times * (value - start[name]) if value.is_floating_point() else value
        for name, value in end.items()
    }


def _lie(times: float) -> None:
    """Have the first site send its update so many times, below masks and noise."""
    noisy_steps = dp_update._NoisySteps.train

    def boosted_round(site: Any, model: nn.Module, *rest: Any, **named: Any) -> Any:
        start = _copy(model)
        result = train_round(site, model, *rest, **named)
        lies = site.name == LIAR
        return replace(result, state=boosted(start, result.state, times)) if lies else result

    def boosted_steps(answer: Any) -> dict[str, Tensor]:
        start, _ = arrived_model(answer.site, answer.message)
        end = noisy_steps(answer)
        lies = answer.site.name == LIAR
        return boosted(start.state_dict(), end, times) if lies else end

    setattr(plain_handler, "train_round", boosted_round)  # noqa: B010
    setattr(dp_update._NoisySteps, "train", boosted_steps)  # noqa: B010


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _launch(
    asked: dict[str, Any], experiment: Experiment, folder: Path, watch: Callable[[], None]
) -> dict[str, Any]:
    for name in ("run_id", "node_id", "task_id"):
        setattr(TaskIdentity, name, 1)
    failing = Failing(float(asked.get("failing", 0)), seed=experiment.seed)
    grid = MortalGrid(to_yaml(experiment), len(experiment.federation.sites), failing)
    grid.dies_in, grid.folder = int(asked.get("dies_in", 0)), folder
    began = time.process_time()
    run(experiment, grid, folder, flower_run=1)
    watch()
    found = {"processor_seconds": round(time.process_time() - began, 2), "lost": grid.lost}
    (folder / LOST).write_text(json.dumps(found), encoding="utf-8")
    return dict(read_json(folder / "result.json"))


def main() -> int:
    """Run `primia` with the words after the first; return its exit code."""
    asked = json.loads(sys.argv[1])
    if asked.get("boost"):
        _lie(float(asked["boost"]))
    setattr(lost, "launch", partial(_launch, asked))  # noqa: B010
    return run_command(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
