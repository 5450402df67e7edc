"""What a SuperNode was started with, and the experiment of a run. Imports no torch."""

from functools import lru_cache
from pathlib import Path

from flwr.app import Context

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import load_experiment
from primia_flwr.errors import ConfigError


@lru_cache(maxsize=4)
def parsed(text: str) -> Experiment:
    """Return the experiment of a run-config's text; once a process, because YAML takes its time."""
    return load_experiment(text)


def experiment_of(context: Context) -> Experiment:
    """Return the run's experiment, before anything of it is replaced by the site's policy."""
    return parsed(_text_of(context))


def node_of(context: Context) -> tuple[str, int | Path]:
    """Return the text of the run's experiment, and a simulation's partition or the site's own file.

    Raises
    ------
    ConfigError
        If the node says neither.
    """
    node = context.node_config
    if "partition-id" in node:
        return _text_of(context), int(node["partition-id"])
    if "site-file" in node:
        return _text_of(context), Path(str(node["site-file"]))
    raise ConfigError(
        f"node-config={dict(node)}; expected partition-id (simulation) or site-file (a site's "
        "own file); start the SuperNode with primia site run"
    )


def _text_of(context: Context) -> str:
    return str(context.run_config.get("config", ""))
