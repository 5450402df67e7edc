import os

import pytest
from flwr.supercore.task_identity import TaskIdentity

from primia_flwr.processes.children import BUNDLE_VARIABLE
from tests.security.lab import Lab


@pytest.fixture(autouse=True)
def _in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower stamps messages with the identity of the process's task; no gate stands here."""
    for name, value in (("_run_id", 1), ("_node_id", 1), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)
    if BUNDLE_VARIABLE in os.environ:
        monkeypatch.delenv(BUNDLE_VARIABLE)


@pytest.fixture(scope="session")
def _labs(tmp_path_factory: pytest.TempPathFactory):
    """Return the provisioned federations by what they were made with: making one takes seconds."""
    made: dict[str, Lab] = {}

    def get(**settings) -> Lab:
        key = repr(sorted(settings.items()))
        if key not in made:
            made[key] = Lab(tmp_path_factory.mktemp("lab"), **settings)
        return made[key]

    return get


@pytest.fixture
def lab(_labs):
    """Return a function that gives a federation as it was provisioned: nothing was ever asked."""

    def build(*, policy=None, **settings) -> Lab:
        found: Lab = _labs(**settings)
        found.reset(policy or {})
        return found

    return build
