"""What a hospital of a relay is handed, and knew before: files and numbers by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from primia_flwr.attacks.inversion.relayed import handed_on, known_before, order_of
from primia_flwr.attacks.inversion.targets import check_target, read_seen, updates_of
from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.errors import ConfigError
from primia_flwr.runs.recording import Recording
from tests.attacks.recorded import experiment_of

ORDER = {1: "bac", 2: "bac"}


def numbers(value: float) -> dict[str, np.ndarray]:
    return {"w": np.full(2, value, np.float32)}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two cycles b, a, c; every site adds 1, 10 or 100 to the model."""
    recording, value = Recording(tmp_path), 0.0
    for number, order in ORDER.items():
        recording.begin(number, numbers(value))
        before = ""
        for site, step in zip(order, (1, 10, 100), strict=True):
            value += step
            recording.site_model(number, site, numbers(value), after=before)
            before = site
    return tmp_path


def test_the_order_is_that_in_which_models_were_handed_on(run: Path) -> None:
    assert [order_of(run, number) for number in (1, 2, 3)] == [["b", "a", "c"], ["b", "a", "c"], []]


def test_a_neighbour_knows_the_cycles_first_model_and_its_own(run: Path) -> None:
    assert known_before(run, "b", 1) == ("model", ("b",))
    assert known_before(run, "a", 1) == ("model", ("b", "a"))
    # c ends cycle 1; b, who goes on, trained first in it: what is new to it is of a and c
    assert known_before(run, "c", 1) == ("b", ("a", "c"))
    assert known_before(run, "c", 2) == ("model", ("b", "a", "c"))
    assert handed_on(run) == [("b", 1), ("b", 2), ("a", 1), ("c", 1), ("a", 2)]


def test_what_is_seen_is_the_steps_since(run: Path) -> None:
    experiment = experiment_of(run)

    def seen(site: str, number: int, *, relayed: bool) -> tuple[list[float], int]:
        found = read_seen(run, site, number, experiment, lambda _: 1, {}, relayed=relayed)
        return found.change["w"].tolist(), found.steps

    assert seen("a", 1, relayed=True) == ([11, 11], 2)
    assert seen("c", 1, relayed=True) == ([110, 110], 2)
    # its coordinator knows what a was handed: the step of a alone
    assert seen("a", 1, relayed=False) == ([10, 10], 1)
    assert seen("c", 2, relayed=False) == ([100, 100], 1)


def relay(folder: Path) -> object:
    asked = experiment_of(folder)
    strategy = StrategyConfig(name="cyclic")
    return replace(asked, aggregation=AggregationConfig(name="relay"), strategy=strategy)


def test_only_a_relay_has_neighbours(tmp_path: Path) -> None:
    plain = experiment_of(tmp_path)
    with pytest.raises(ConfigError, match="of a plain run; expected a run with strategy=cyclic"):
        check_target("relayed_model", plain, lambda _: 12)
    with pytest.raises(ConfigError, match=r"of a relay run; .* set target=relayed_model"):
        check_target("secure_sum", relay(tmp_path), lambda _: 12)  # type: ignore[arg-type]
    check_target("relayed_model", relay(tmp_path), lambda _: 12)  # type: ignore[arg-type]


def test_targets_come_from_the_files(run: Path) -> None:
    assert updates_of(run, "relayed_model")[0] == ("b", 1)
    assert len(updates_of(run, "received_update")) == 6
    assert torch.equal(read_seen(run, "b", 1, experiment_of(run), lambda _: 1, {}).base["w"],
                       torch.zeros(2))  # fmt: skip
