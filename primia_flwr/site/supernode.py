"""Flower's SuperNode that looks at bundles first, with shorter pauses while a run is going on.

What arrives is bounded and checked before Flower reads it (`first_look`). What is for a run that
is over is given up (`straggler`).

Flower looks for a message every three seconds. A round of secure aggregation is two messages, so a
site would spend up to six seconds of it asleep. Here it looks often while messages come and
falls back to Flower's own pace where none has come for a while.
"""

import sys
from pathlib import Path

from flwr.supernode.cli import flower_supernode

from primia_flwr.errors import FederationError
from primia_flwr.processes.pace import hasten_messages, hasten_transfers, ring_after
from primia_flwr.site.bundle.first_look import look_first, node_runtime
from primia_flwr.site.straggler import give_up_over

BELL = "bell"  # in the state folder: touched when a message has come


def main() -> None:
    """Run `flower-supernode` with the arguments of the command line, of which the first is our own.

    It is the file to touch when a message has come: the executor waits for that. A Flower that has
    no such pauses any more keeps its own pace; one in which the first look has no place does not
    start.
    """
    try:
        look_first(node_runtime)
    except FederationError as error:
        sys.exit(f"error: {error}")
    give_up_over(node_runtime)
    ring_after(node_runtime, "_pull_and_store_message", Path(sys.argv.pop(1)))
    hasten_messages(node_runtime)
    hasten_transfers()
    sys.argv[0] = "flower-supernode"
    flower_supernode()
