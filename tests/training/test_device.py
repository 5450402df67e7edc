import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import ConfigError, DataError
from primia_flwr.training.device import (
    compute_settings,
    derive_seed,
    pick_device,
)
from primia_flwr.training.normalisation import Normalisation

CPU = torch.device("cpu")


def test_seed_is_the_same_on_every_machine() -> None:
    # sha256("(1, 'order', 0)"), first 8 bytes big-endian, halved
    assert derive_seed(1, "order", 0) == 1341983847465664397


@given(st.lists(st.one_of(st.integers(), st.text()), min_size=1, max_size=4))
def test_seeds_fit_pytorch_and_separate_their_parts(parts: list[int | str]) -> None:
    assert 0 <= derive_seed(*parts) < 2**63
    assert derive_seed(*parts) != derive_seed(*parts, 0)
    assert derive_seed(*parts) == derive_seed(*parts)


def test_parts_do_not_run_together() -> None:
    assert derive_seed("a", "b") != derive_seed("ab")
    assert derive_seed(1, 23) != derive_seed(12, 3)
    assert derive_seed(1) != derive_seed("1")


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda", 0)
    assert pick_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:x", "tpu", "cuda:-1"])
def test_a_device_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"training.device={name}; .*0 CUDA devices"):
        pick_device(name)


def test_settings_are_put_back_even_after_an_error() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()

    def fails() -> None:
        with compute_settings(CPU, seed=1, threads=1, deterministic=True):
            assert torch.get_num_threads() == 1
            assert torch.are_deterministic_algorithms_enabled()
            torch.rand(5)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), state)


def test_settings_seed_the_generator() -> None:
    draws = []
    for _ in range(2):
        with compute_settings(CPU, seed=7):
            draws.append(torch.rand(3))
    assert torch.equal(*draws)


def test_normalisation_by_hand() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    scaled = Normalisation((0.2,), (0.4,)).apply(images)
    assert scaled.dtype == torch.float32
    assert scaled.flatten().tolist() == pytest.approx([-0.5, 0.0, 2.0], abs=1e-6)


def test_normalisation_per_channel_and_of_floats() -> None:
    images = torch.full((1, 3, 1, 1), 0.5)
    scaled = Normalisation((0.0, 0.5, 1.0), (1.0, 1.0, 0.25)).apply(images)
    assert scaled.flatten().tolist() == pytest.approx([0.5, 0.0, -2.0])
    assert images.flatten().tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("mean", "std"), [((0.5,), (0.0,)), ((0.5,), (float("nan"),)), ((), ()), ((0.5,), (0.1, 0.1))]
)
def test_impossible_normalisation_is_refused(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    with pytest.raises(DataError, match="standard deviation"):
        Normalisation(mean, std)


@pytest.mark.parametrize(("set_before", "expected"), [(None, ":4096:8"), (":16:8", ":16:8")])
def test_cublas_is_told_before_anything_can_start_it(set_before: str | None, expected: str) -> None:
    program = (
        "import os, primia_flwr.training.evaluate, torch\n"
        "assert not torch.cuda.is_initialized()\n"
        "print(os.environ['CUBLAS_WORKSPACE_CONFIG'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "CUBLAS_WORKSPACE_CONFIG"}
    environment |= {"CUBLAS_WORKSPACE_CONFIG": set_before} if set_before else {}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected
