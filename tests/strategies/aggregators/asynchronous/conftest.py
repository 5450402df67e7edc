import pytest

from primia_flwr.flower import roster_grid
from strategies.rounds import participation
from tests.strategies.aggregators.asynchronous.slow_grid import Clock


@pytest.fixture
def clock(monkeypatch):
    """A clock that only waiting moves."""
    clock = Clock()
    monkeypatch.setattr(roster_grid, "time", clock)
    monkeypatch.setattr(participation, "time", clock)
    return clock
