"""Which runs the attacks can look at."""

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import ConfigError


def check_one_class(experiment: Experiment) -> None:
    """Refuse a run whose labels are no class of an image, which attacks rebuild or ask about.

    Raises
    ------
    ConfigError
        If a label is a mask or says several findings.
    """
    task = experiment.task
    if task.masked or task.several:
        raise ConfigError(
            f"run: its data.task={task.name} has labels that are no class of an image; expected a "
            "run of one class an image, e.g. task=classification: train one on the same images "
            "and attack that"
        )
