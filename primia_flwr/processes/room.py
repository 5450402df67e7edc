"""How much memory there is for this process and for those that it starts."""

import contextlib
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int:
    """Return what may still be taken: of the machine, and of this process' control group."""
    found = [psutil.virtual_memory().available]
    with contextlib.suppress(OSError, ValueError):  # no group, or one without a limit ("max")
        limit = int((_CGROUP / "memory.max").read_text())
        found.append(max(0, limit - int((_CGROUP / "memory.current").read_text())))
    return min(found)
