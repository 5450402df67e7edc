"""Large buffers used again: what glibc is told in the environment of a process that lives on.

A model is tens of megabytes, and each step of a message makes a buffer of it. By default glibc asks
the system for every such buffer anew and gives it back at once, so that every page of it is cleared
and mapped again: measured here, 44 ms in place of 5 to pack 45 MB. Kept, the process stays at its
highest use.
"""

import os

_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),  # bytes from which a buffer is mapped by itself
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),  # unused bytes that are given back
}


def memory_settings() -> dict[str, str]:
    """Return the variables, as the user has set them where one is set; others than glibc ignore."""
    return {name: os.environ.get(name, value) for name, value in _SETTINGS.items()}
