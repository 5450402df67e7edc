"""A process that trains some baselines, one after another, and ends.

    python -I -c … primia_flwr.pipeline.baselines.process FOLDER NAME ...

What it is asked lies in the folder, and what it answers goes there (`handed`).
"""

import sys
from functools import partial
from pathlib import Path

from primia_flwr.config.load import load_experiment
from primia_flwr.config.rows import add_plugins
from primia_flwr.errors import PrimiaError
from primia_flwr.pipeline.baselines import handed
from primia_flwr.pipeline.baselines.one import data_of, dealt_sites, train
from primia_flwr.processes.children import end_with_parent


def main() -> int:
    """Train the baselines that are named; 1 if a mistake ended that."""
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    end_with_parent()
    try:
        train_in(folder, names)
    except PrimiaError as error:
        handed.give_up(folder, error)
        return 1
    return 0


def train_in(folder: Path, names: list[str]) -> None:
    """Train baselines as the folder asks, and hand each over.

    Raises
    ------
    PrimiaError
        As `one.train`.
    """
    asked = handed.asked_in(folder)
    for plugins in asked["plugins"]:
        add_plugins(Path(plugins))
    experiment = load_experiment(asked[handed.EXPERIMENT])
    dealt = dealt_sites(experiment)
    for name in names:
        data = data_of(experiment, dealt, name)
        handed.hand_over(folder, name, train(experiment, name, data, partial(handed.tell, folder)))
