"""Many comparisons in parts that fit a cache, some of them at a time on threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from primia_flwr.errors import ConfigError

_SIZE = 1 << 13


def in_parts(work: Callable[[slice], None], count: int, threads: int, size: int = _SIZE) -> None:
    """Call `work` on slices that together are 0 to `count`, up to `threads` at a time.

    Raises
    ------
    ConfigError
        If there is no thread.
    """
    if threads < 1:
        raise ConfigError(f"threads={threads} of comparisons; expected at least 1")
    parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    if threads == 1 or len(parts) == 1:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(min(threads, len(parts))) as pool:
        list(pool.map(work, parts))


def check_words(name: str, array: NDArray[np.generic], count: int) -> None:
    """Refuse an array that is not `count` words.

    Raises
    ------
    ConfigError
        If it is not.
    """
    if array.dtype != np.uint64 or array.shape != (count,):
        raise ConfigError(
            f"{name} is {array.dtype} {array.shape}; expected uint64 ({count},), one entry for "
            "each comparison"
        )
