"""What else the machine does while something is measured."""

import os
import time

import psutil

QUIET = 0.15  # cores that others may use
_SAMPLE = 2.0  # seconds


class Others:
    """Cores that processes other than this one and its descendants keep busy, from now on.

    What a hypervisor takes away counts as others'.
    """

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._busy, self._own = _busy_seconds(), _own_seconds()

    def cores(self) -> float:
        """Return the mean since the start; no descendant may have ended in between."""
        others = _busy_seconds() - self._busy - (_own_seconds() - self._own)
        return round(max(others / (time.monotonic() - self._since), 0.0), 2)


def wait_until_quiet(patience: float) -> dict[str, float]:
    """Wait until others leave the machine alone, at most so long; return what it is like then."""
    end = time.monotonic() + patience
    while True:
        others = Others()
        time.sleep(_SAMPLE)
        cores = others.cores()
        if cores <= QUIET or time.monotonic() > end:
            return {"load_average": round(os.getloadavg()[0], 2), "cores_of_others": cores}


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    twice = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - twice)


def _own_seconds() -> float:
    this = psutil.Process()
    total = 0.0
    for process in (this, *this.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total
