"""How threads wait for each other: a moment awake, then asleep.

PyTorch's threads meet after every operation. By default who comes first waits awake for
milliseconds, and holds the core that the others need where a machine has anything else to do
(`primia_bench.rounds.waiting` measures it). Asleep sooner, nothing computed differs.
"""

import os

# OpenMP's own word, and the turns that GNU's waits awake in place of what the word means to it.
_SETTINGS = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}


def waiting_settings() -> dict[str, str]:
    """Return the variables, to be set before PyTorch is imported; none where a user has set one."""
    return {} if any(name in os.environ for name in _SETTINGS) else dict(_SETTINGS)
