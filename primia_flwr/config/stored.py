"""The configuration of a finished run, as its folder holds it."""

from pathlib import Path

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import load_experiment
from primia_flwr.errors import ConfigError
from primia_flwr.storage.reading import read_text, reading


def read_config(path: Path) -> Experiment:
    """Read the `config.yaml` of a run.

    Raises
    ------
    ConfigError
        If it cannot be read, or is not the configuration of an experiment.
    """
    expected = "the config.yaml as the run wrote it; copy the whole run folder again"
    with reading(path, error=ConfigError, expected=expected):
        return load_experiment(read_text(path))
