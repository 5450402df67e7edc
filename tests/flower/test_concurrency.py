"""How simulated sites share a machine: numbers one can check by hand."""

from __future__ import annotations

import dataclasses

import pytest

from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.errors import ConfigError
from primia_flwr.flower.shares import Shares, shares

GIB = 1 << 30


def sites(count: int, device: str = "auto", **more: float) -> Experiment:
    names = [f"s{i}" for i in range(count)]
    federation = dataclasses.replace(FederationConfig(), sites=names, min_sites=1, **more)
    return Experiment(federation=federation, training=TrainingConfig(device=device))


@pytest.mark.parametrize(
    ("count", "cores", "expected"),
    [
        (3, 2, (1, 2)),  # 3 turns of 0.25 + 0.75 / 2 = 1.875 against 2 turns of 1
        (5, 2, (2, 1)),  # 5 turns of 0.625 = 3.125 against 3 turns of 1
        (10, 2, (2, 1)),  # 6.25 against 5
        (1, 8, (1, 8)),
        (4, 4, (4, 1)),
        (3, 4, (3, 1)),  # 3 * 0.4375 and 2 * 0.625 against 1
        (3, 8, (3, 2)),  # 3 * 0.34375 and 2 * 0.4375 against 0.625
        (2, 1, (1, 1)),
    ],
)
def test_the_least_waste_wins(count: int, cores: int, expected: tuple[int, int]) -> None:
    assert shares(sites(count), cores=cores, gpus=[]) == Shares(*expected)


def test_a_fixed_share_of_the_cores_is_kept() -> None:
    assert shares(sites(3, cpus_per_site=1), cores=4, gpus=[]) == Shares(4, 1)
    assert shares(sites(3, cpus_per_site=8), cores=4, gpus=[]) == Shares(1, 4)


@pytest.mark.parametrize(
    ("count", "cores", "gpus", "expected"),
    [
        (3, 16, [80], Shares(3, 5, 0.3333, 1)),  # memory for 10, cores for 8, 3 sites
        (20, 16, [80], Shares(8, 2, 0.125, 1)),  # two cores each
        (20, 64, [80, 80], Shares(20, 3, 0.1, 2)),  # memory for 20, ten on each
        (3, 64, [80, 80], Shares(3, 21, 0.5, 2)),  # two on one, one on the other
        (3, 2, [80, 80], Shares(2, 1, 1.0, 2)),  # no GPU idles
        (5, 16, [6], Shares(1, 16, 1.0, 1)),  # memory for one
        (4, 16, [16, 80], Shares(4, 4, 0.5, 2)),  # the smaller one decides
    ],
)
def test_sites_share_the_gpus(count: int, cores: int, gpus: list[int], expected: Shares) -> None:
    for device in ("auto", "cuda"):
        memory = [size * GIB for size in gpus]
        assert shares(sites(count, device), cores=cores, gpus=memory) == expected


def test_a_fixed_share_of_a_gpu_is_kept() -> None:
    found = shares(sites(9, gpus_per_site=0.25), cores=16, gpus=[80 * GIB])
    assert found == Shares(4, 4, 0.25, 1)
    assert shares(sites(9, gpus_per_site=2), cores=16, gpus=[GIB] * 4) == Shares(2, 8, 2, 4)


def test_on_the_cpu_no_gpu_is_asked_for() -> None:
    assert shares(sites(3, "cpu"), cores=2, gpus=[80 * GIB]) == Shares(1, 2)


@pytest.mark.parametrize(
    ("device", "share", "words"),
    [
        ("cuda", 0.0, "training.device=cuda; expected .* 0 CUDA devices"),
        ("cuda:1", 0.0, "training.device=cuda:1; .* 0 CUDA devices"),
        ("auto", 0.5, "gpus_per_site=0.5 on a machine without a CUDA device"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused(device: str, share: float, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        shares(sites(3, device, gpus_per_site=share), cores=4, gpus=[])


def test_the_second_gpu_of_two_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = shares(sites(3, "cuda:1"), cores=4, gpus=[GIB, 80 * GIB])
    assert (found.devices, found.at_once, found.only) == (1, 2, 1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert found.visible == {"CUDA_VISIBLE_DEVICES": "1"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert found.visible == {"CUDA_VISIBLE_DEVICES": "5"}
    assert shares(sites(3), cores=4, gpus=[GIB]).visible == {}
    with pytest.raises(ConfigError, match="cuda:2"):
        shares(sites(1, "cuda:2"), cores=4, gpus=[GIB, GIB])


def test_flower_is_told() -> None:
    assert Shares(2, 3).options(5) == (
        "num-supernodes=5 client-resources-num-cpus=3 init-args-num-cpus=6 "
        "init-args-log-to-driver=true"
    )
    assert (
        Shares(2, 3, 0.5, 1)
        .options(5)
        .endswith("client-resources-num-gpus=0.5 init-args-num-gpus=1")
    )
