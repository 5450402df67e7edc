"""How many simulated sites train at once: numbers one can check by hand."""

from __future__ import annotations

import pytest

from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.flower.simulation import concurrent_sites, federation_options


def sites(count: int, **more: int) -> FederationConfig:
    return FederationConfig(sites=[f"s{i}" for i in range(count)], min_sites=1, **more)


@pytest.mark.parametrize(
    ("count", "cores", "expected"),
    [
        (3, 2, (1, 2)),  # one at a time: 3 turns of 2 cores beat 2 turns of 1 core
        (10, 2, (2, 1)),  # 5 turns of 1 core equal 10 turns of 2 cores: the larger number
        (1, 8, (1, 8)),
        (4, 4, (4, 1)),
        (3, 4, (1, 4)),  # 3/4 of a turn against 2/2 (two at once) and 1/1 (three at once)
        (2, 1, (1, 1)),
    ],
)
def test_the_least_waste_wins(count: int, cores: int, expected: tuple[int, int]) -> None:
    assert concurrent_sites(sites(count), cores) == expected


def test_a_fixed_share_is_kept() -> None:
    assert concurrent_sites(sites(3, cpus_per_site=1), 4) == (4, 1)
    assert concurrent_sites(sites(3, cpus_per_site=8), 4) == (1, 4)


def test_flower_gets_the_number_of_sites() -> None:
    assert "num-supernodes=3 " in federation_options(sites(3))
