"""A simulation whose processes die: what the user is told, and when it is started anew."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import FederationError
from primia_flwr.flower.launcher import launch
from primia_flwr.messages.refusals import KILLED, NO_MEMORY

_STARTS = 3
_ENDED = "without a result"  # of Flower's own end: Ray, or the process of the run, has died


def launch_again(
    experiment: Experiment, run_dir: Path, update: Callable[[], None], say: Callable[[str], None]
) -> dict[str, Any]:
    """Run the federated part; a simulation whose processes die is started anew, twice at most.

    It goes on from its last checkpoint, so the round in hand is repeated. Flower keeps a dead
    process of Ray in its pool, where it fails whatever it is given: only a new pool helps.

    Raises
    ------
    RunStopped, FederationError
        As `launch`; where memory ran out, with what to lower.
    """
    simulated = experiment.deployment.kind == "simulation"
    for start in range(1, _STARTS + 1):
        try:
            return launch(experiment, run_dir, update)
        except FederationError as error:
            words = str(error)
            again = simulated and (KILLED in words or _ENDED in words) and start < _STARTS
            if not again:
                raise FederationError(words + _what_to_lower(words, experiment)) from None
        say("[yellow]a process of the simulation has died[/]; it is started anew and goes on")
        experiment = replace(experiment, resume=str(run_dir))
    raise AssertionError


def _what_to_lower(words: str, experiment: Experiment) -> str:
    """Return what takes memory in a run and may be less, where memory seems to have run out."""
    if experiment.deployment.kind != "simulation" or not (KILLED in words or NO_MEMORY in words):
        return ""
    return (
        f"; memory goes into training.batch_size={experiment.training.batch_size} images of "
        f"data.image_size={experiment.data.image_size} with model.name={experiment.model.name}, "
        "for each site that trains at once: lower one of them, or let fewer sites train at once "
        "with a larger federation.cpus_per_site (on a GPU federation.gpus_per_site=1)"
    )
