"""Flower's SuperNode with shorter pauses while a run is going on.

It looks for a message every three seconds. A round of secure aggregation is two messages, so a
site would spend up to six seconds of it asleep. Here it looks often while messages come and
falls back to Flower's own pace where none has come for a while.
"""

import importlib
import sys

from flwr.supernode.cli import flower_supernode

from primia_flwr.pace import hasten_messages, hasten_transfers

# By name: packages of Flower export functions that are called like their modules.
node_runtime = importlib.import_module("flwr.supernode.start_client_internal")


def main() -> None:
    """Run `flower-supernode` with the arguments of the command line.

    A Flower that has no such pauses any more keeps its own pace.
    """
    hasten_messages(node_runtime)
    hasten_transfers()
    sys.argv[0] = "flower-supernode"
    flower_supernode()
