"""`primia train` whose federated part runs in the test's own process: real halves, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import to_yaml
from primia_flwr.pipeline import lost
from primia_flwr.runs.metadata import read_json
from strategies.server_app import run
from tests.strategies.conftest import FakeGrid, hasten
from tests.walks.federation import Site


@contextmanager
def without_processes() -> Iterator[None]:
    """Have every simulated run of this process keep to it; all but Flower's programs is real."""
    with pytest.MonkeyPatch.context() as patch:
        hasten(patch)
        patch.setattr(lost, "launch", _launch)
        yield


def _launch(experiment: Experiment, folder: Path, watch: Callable[[], None]) -> dict[str, Any]:
    text, count = to_yaml(experiment), len(experiment.federation.sites)
    sites: Any = {index + 1: Site(text, index, sites=count) for index in range(count)}
    run(experiment, FakeGrid(sites), folder, flower_run=1)
    watch()
    return dict(read_json(folder / "result.json"))
