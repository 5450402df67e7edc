"""How images are dealt to simulated sites, as run.json says, and which runs may go on with it.

Since 2026-11-30 the parts go to the sites by their names. A run that began before got them by
place: going on with it would give each site other patients, test patients of others among them.
"""

from pathlib import Path

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.data.dataset import by_number
from primia_flwr.errors import CheckpointError
from primia_flwr.storage.reading import parse_json, read_text, reading

DEALT = "by name"


def check_dealt(folder: Path, experiment: Experiment) -> None:
    """Refuse to go on with a simulation whose sites would get other images.

    Raises
    ------
    CheckpointError
        If it was dealt otherwise, or its run.json cannot be read.
    """
    path, names = folder / "run.json", list(experiment.federation.sites)
    partition, simulated = experiment.data.partition, experiment.deployment.kind == "simulation"
    same = partition.shares or partition.kind == "manifest" or names == sorted(names, key=by_number)
    if not simulated or same or not path.is_file():
        return
    with reading(path, error=CheckpointError, expected="what the run wrote; copy it again"):
        dealt = dict(parse_json(read_text(path))).get("dealt")
    if dealt != DEALT:
        raise CheckpointError(
            f"resume={folder}: its images were dealt to {', '.join(names)} in that order, by an "
            "earlier version; expected a run whose images were dealt by name: go on with the "
            "version that began it, or start a new run"
        )
