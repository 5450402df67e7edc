"""A run is followed by experiment tracking, and ends there as it ends here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import PrimiaError
from primia_flwr.flower.launcher import RunStopped
from primia_flwr.runs.track import Curves


@contextmanager
def tracked(experiment: Experiment, run_dir: Path) -> Iterator[Curves]:
    """Follow a run from before its first round; a run that is done is not undone by tracking.

    Raises
    ------
    MissingExtraError, TrackingError
        As `Curves`, before anything is done.
    """
    curves = Curves(experiment, run_dir)
    try:
        yield curves
    except BaseException as error:
        curves.fail(*_failure(error))
        raise
    curves.finish()


def _failure(error: BaseException) -> tuple[str, str]:
    """Return the status of a run that ended by an error, and the words for it."""
    if isinstance(error, RunStopped):
        return str(error.facts.get("status", "stopped")), str(error)
    if isinstance(error, PrimiaError):
        return "failed", str(error)
    return "stopped" if isinstance(error, KeyboardInterrupt) else "failed", ""
