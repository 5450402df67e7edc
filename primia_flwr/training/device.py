"""Where and how a site computes: the device, its share of the cores, and its seeds."""

import hashlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from primia_flwr.errors import ConfigError


def derive_seed(*parts: int | str) -> int:
    """Derive a seed in [0, 2**63) from parts, e.g. `derive_seed(seed, "order", epoch)`.

    The parts' types count too: 1 and "1" give different seeds. These seeds order images and
    draw augmentations; they are no source of secrets.
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def gpu_memory() -> list[int]:
    """Return the memory of each CUDA device that this process sees, in bytes."""
    if not torch.cuda.is_available():
        return []
    count = torch.cuda.device_count()
    return [torch.cuda.get_device_properties(index).total_memory for index in range(count)]


def device_name(device: torch.device) -> str:
    """Return what a device is called, e.g. `cuda:0 (NVIDIA H200)` or `cpu (x86_64)`."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({platform.processor() or platform.machine()})"


def pick_device(
    name: str, *, key: str = "training.device", available: int | None = None
) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:<n>` into a device.

    `key` is what the user has set; `available` is given where the number of CUDA devices is known.

    Raises
    ------
    ConfigError
        If a GPU is asked for that this machine does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if available is None:
        available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and (not number or number.isdigit()) and int(number or 0) < available:
        return torch.device("cuda", int(number or 0))
    raise ConfigError(
        f"{key}={name}; expected auto, cpu or one of this machine's {available} CUDA devices; set "
        f"{key}=cpu or auto"
    )


def cpu_copy(value: Tensor) -> Tensor:
    """Return a tensor's values on the CPU, row by row, in memory that nothing else shares."""
    return torch.empty(value.shape, dtype=value.dtype).copy_(value.detach())


def place(model: nn.Module, device: torch.device, *, channels_last: bool) -> None:
    """Move a model to a device, its kernels with the channels last if that is asked for."""
    model.to(device)
    if channels_last and all(p.dim() < 5 for p in model.parameters()):  # volumes have no such form
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@contextmanager
def compute_settings(
    device: torch.device, *, seed: int, threads: int = 0, deterministic: bool = False
) -> Iterator[None]:
    """Seed PyTorch's generators and set its switches for the block; put all back afterwards.

    Parameters
    ----------
    device : torch.device
        Where the block computes.
    seed : int
        For the global generators of the CPU and of `device`, e.g. for dropout.
    threads : int
        CPU threads; 0 leaves them as they are.
    deterministic : bool
        Only deterministic kernels where PyTorch has them; it warns where it has none.
    """
    before = torch.get_num_threads(), torch.backends.cudnn.benchmark
    strict, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        try:
            torch.default_generator.manual_seed(seed)
            if on_gpu:
                _seed_gpu(device, seed)
            if deterministic:
                torch.use_deterministic_algorithms(True, warn_only=True)
            torch.backends.cudnn.benchmark = on_gpu and not deterministic
            if threads:
                torch.set_num_threads(threads)
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.backends.cudnn.benchmark = before[1]
            torch.use_deterministic_algorithms(strict, warn_only=warn_only)


def _seed_gpu(device: torch.device, seed: int) -> None:
    with torch.cuda.device(device):
        torch.cuda.manual_seed(seed)
