"""How many of the machine's cores this process may take for itself."""

import os

from primia_flwr.processes.children import available_cores

SHARE_OF_CORES = "PRIMIA_CORES"
"""The variable by which a simulated site is told how many cores are its own."""


def own_cores() -> int:
    """Return this site's share of the cores; all that the process may use where nobody shared."""
    told = os.environ.get(SHARE_OF_CORES, "")
    return int(told) if told.isdecimal() and int(told) else available_cores()
